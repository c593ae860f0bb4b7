"""Networks: tensors in, tensors out. No files, no flags, no processes.

What all families of networks share stands here, and each family has a folder of its own.
"""
