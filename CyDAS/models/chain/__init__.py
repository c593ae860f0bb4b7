"""The chain-structured (MobileNet-like) space: its architectures, their networks and what they cost."""
