"""Options: how one is declared, every section of them, and how words become a typed config."""

from .clip import ClipConfig
from .contrast import ContrastConfig
from .data import DataConfig, EvaluatedDataConfig, ExaminedDataConfig, PlannedDataConfig
from .dataset_card import DatasetCard
from .evaluate import EvaluateConfig, FinetuneConfig
from .explore import ClustersConfig, LabelConfig
from .labelling import LabellingConfig
from .launch import LaunchConfig, PlannedLaunchConfig
from .model import ModelConfig
from .optim import OptimConfig
from .runs import (
    ExportConfig,
    ModelsConfig,
    ModelsConvertConfig,
    ModelsFetchConfig,
    ModelsShowConfig,
    RunsConfig,
    SummaryConfig,
)
from .sample import SampleConfig
from .train import PlanConfig, TrainConfig
from .videos import DoctorConfig, IndexConfig, PrepareConfig, ShardConfig

__all__ = [
    "ClipConfig",
    "ClustersConfig",
    "ContrastConfig",
    "DataConfig",
    "DatasetCard",
    "DoctorConfig",
    "EvaluateConfig",
    "EvaluatedDataConfig",
    "ExaminedDataConfig",
    "ExportConfig",
    "FinetuneConfig",
    "IndexConfig",
    "LabelConfig",
    "LabellingConfig",
    "LaunchConfig",
    "ModelConfig",
    "ModelsConfig",
    "ModelsConvertConfig",
    "ModelsFetchConfig",
    "ModelsShowConfig",
    "OptimConfig",
    "PlanConfig",
    "PlannedDataConfig",
    "PlannedLaunchConfig",
    "PrepareConfig",
    "RunsConfig",
    "SampleConfig",
    "ShardConfig",
    "SummaryConfig",
    "TrainConfig",
]
