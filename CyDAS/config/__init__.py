"""Every flag of every program, once: name, unit, default, help. How they are read: ``utils/flags.py``."""

from CyDAS.config.data_sets import DATASETS, EMBEDDED, FOLDER_PIXELS, IN_MEMORY, PUBLISHED
from CyDAS.config.detection import DetectConfig
from CyDAS.config.programs import (
    CommonConfig,
    EvaluationConfig,
    FoundNetworkConfig,
    RetrainConfig,
    SearchConfig,
    TrainingConfig,
    TrainingFlags,
)
from CyDAS.config.segmentation import SegmentConfig

__all__ = [
    "DATASETS",
    "EMBEDDED",
    "FOLDER_PIXELS",
    "IN_MEMORY",
    "PUBLISHED",
    "CommonConfig",
    "DetectConfig",
    "EvaluationConfig",
    "FoundNetworkConfig",
    "RetrainConfig",
    "SearchConfig",
    "SegmentConfig",
    "TrainingConfig",
    "TrainingFlags",
]
