"""Options: how they are declared, all their sections, and how the words of a command become a typed config."""

from .clip import ClipConfig
from .contrast import ContrastConfig
from .data import (
    DataConfig,
    ExaminedDataConfig,
    FilesConfig,
    FoldersConfig,
    IndexedDataConfig,
    PlacedDataConfig,
    ReadingConfig,
    TrainedDataConfig,
)
from .dataset_card import DatasetCard
from .evaluate import EvaluateConfig, FinetuneConfig
from .explore import ClustersConfig, LabelConfig, OpenConfig
from .features import FeaturesConfig
from .labelling import LabellingConfig
from .launch import LaunchConfig, PartsConfig
from .locate import DetectConfig, LocateConfig
from .model import ModelConfig
from .monitor import MonitorConfig
from .optim import OptimConfig
from .runs import (
    CompletionConfig,
    ExportConfig,
    ModelsConfig,
    ModelsConvertConfig,
    ModelsFetchConfig,
    ModelsShowConfig,
    RunsConfig,
    SummaryConfig,
    WatchConfig,
)
from .sample import SampleConfig
from .train import PlanConfig, TrainConfig
from .video_commands import DoctorConfig, IndexConfig, PrepareConfig, ShardConfig

__all__ = [
    "ClipConfig",
    "ClustersConfig",
    "CompletionConfig",
    "ContrastConfig",
    "DataConfig",
    "DatasetCard",
    "DetectConfig",
    "DoctorConfig",
    "EvaluateConfig",
    "ExaminedDataConfig",
    "ExportConfig",
    "FeaturesConfig",
    "FilesConfig",
    "FinetuneConfig",
    "FoldersConfig",
    "IndexConfig",
    "IndexedDataConfig",
    "LabelConfig",
    "LabellingConfig",
    "LaunchConfig",
    "LocateConfig",
    "ModelConfig",
    "ModelsConfig",
    "ModelsConvertConfig",
    "ModelsFetchConfig",
    "ModelsShowConfig",
    "MonitorConfig",
    "OpenConfig",
    "OptimConfig",
    "PartsConfig",
    "PlacedDataConfig",
    "PlanConfig",
    "PrepareConfig",
    "ReadingConfig",
    "RunsConfig",
    "SampleConfig",
    "ShardConfig",
    "SummaryConfig",
    "TrainConfig",
    "TrainedDataConfig",
    "WatchConfig",
]
