"""A decoder of a backbone's features: a class for every pixel."""
