"""What a run is: its folder and lock, the record of how it was made, log, figures, checkpoints, and how it goes on."""
