"""Images in, batches of tensors out."""

from CyDAS.data.sets import DataSet, ImagesInFolders, load_data

__all__ = ["DataSet", "ImagesInFolders", "load_data"]
