"""What every other package stands on: files, processes, logs, pictures."""
