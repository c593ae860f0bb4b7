"""Networks: tensors in, tensors out. No files, no flags, no processes."""
