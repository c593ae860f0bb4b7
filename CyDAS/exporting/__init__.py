"""Trained networks written for other programs: each file proven to hold the network before it is put in place."""
