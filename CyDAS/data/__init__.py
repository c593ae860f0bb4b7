"""Images in, batches of tensors out."""

from CyDAS.data.sets import DataSet, load_data

__all__ = ["DataSet", "load_data"]
