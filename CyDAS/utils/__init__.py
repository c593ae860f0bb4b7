"""Small things without a subject of their own: errors, files, flags, processes, streams, texts, pictures."""
