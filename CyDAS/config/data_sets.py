"""Which data sets there are, and what the published checkpoints are of."""

#: The values of ``--dataset``; an extension may add to them, and to the next ones.
DATASETS = ["digits", "cluttered", "cifar10", "cifar100", "imagenet", "folder"]
#: Data sets that are not read from class folders, and the pixels of their images where no --image_size is given.
IN_MEMORY = {"digits": 16, "cluttered": 24, "cifar10": 32, "cifar100": 32}
FOLDER_PIXELS = 224  #: the same for class folders
EMBEDDED = ("digits", "cluttered")  #: data sets that need no files
#: Flags that describe the published checkpoints, which do not say of what they are.
PUBLISHED = {
    "cifar10": {"dataset": "cifar10", "model_type": "cifar", "init_channels": 36, "stem_multiplier": 3, "layer_num": 3},
    "imagenet": {
        "dataset": "imagenet", "model_type": "imagenet", "init_channels": 48, "stem_multiplier": 1, "layer_num": 3,
    },
}  # fmt: skip
