"""The algorithm over time: the cyclic search, supervised training, losses, optimisers."""
