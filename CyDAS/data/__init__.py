"""Images in, batches of tensors out."""

from CyDAS.data.dataset import DataSet, LabelledImages
from CyDAS.data.sets import ImagesInFolders, load_data, register_dataset

__all__ = ["DataSet", "ImagesInFolders", "LabelledImages", "load_data", "register_dataset"]
