"""What a run has found and how, for people: one HTML file that needs nothing else, and the same as Markdown."""
