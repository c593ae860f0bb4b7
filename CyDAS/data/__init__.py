"""Images in, batches of tensors out."""

from CyDAS.data.dataset import DataSet, LabelledImages
from CyDAS.data.sets import ImagesInFolders, load_data

__all__ = ["DataSet", "ImagesInFolders", "LabelledImages", "load_data"]
