"""Run folders, exports and published weights."""

from dataclasses import dataclass

from omegaconf import MISSING

from .option import DAY, option


@dataclass
class RunsConfig:
    """avssl runs"""

    folder: str = option("runs", "folder that holds run folders, at any depth", path="folder")


@dataclass
class SummaryConfig:
    """avssl summary"""

    runs: list[str] = option([], "run folders, as runs=[a,b,c]", path="folder", unique=True)
    of: str = option(
        "clusters",
        "clusters: NMI of what avssl clusters wrote; evaluate: every figure of avssl evaluate, trained and with "
        "random=true, side by side",
        choices="clusters evaluate",
    )
    out: str | None = option(None, "file for the table of of=evaluate (Markdown)", path="new file")


@dataclass
class ExportConfig:
    """avssl export"""

    modality: str = option(MISSING, "the encoder to export", choices="video audio")
    format: str = option(
        "onnx", "onnx; torch_export: a program of torch.export (.pt2); safetensors: the weights alone",
        choices="onnx torch_export safetensors",
    )  # fmt: skip
    run: str = option("", "run folder of `avssl train`", path="run")
    checkpoint: str = option(
        "", "one checkpoint of a run, or published weights (a file or a name), instead of run", path="either"
    )
    heads: bool = option(False, "the cluster heads over the encoder too")
    out: str = option(
        "",
        "file to write; empty is export/<modality> in the run's folder, or export/<checkpoint>_<modality> here",
        path="new file",
    )
    tolerance: float = option(
        1e-3,
        "largest difference from the encoder's own outputs, as a share of the largest of them",
        minimum=0,
        maximum=1,
    )


@dataclass
class ModelsConfig:
    """avssl models"""


@dataclass
class ModelsShowConfig:
    """avssl models show"""

    name: str = option(MISSING, "a published model, as `avssl models` lists them")


@dataclass
class ModelsFetchConfig:
    """avssl models fetch"""

    name: str = option(MISSING, "a published model, as `avssl models` lists them")
    accept_licence: bool = option(False, "the licence that is shown is accepted")
    sha256: str = option(
        "",
        "checksum of the file, 64 hexadecimal digits; needed where its authors published none",
        pattern="[0-9a-fA-F]{64}",
    )
    url: str = option("", "another address of the same file")
    timeout: float = option(
        60.0, "a silence of the server longer than this ends the fetching", "s", minimum=0.1, maximum=DAY
    )


@dataclass
class ModelsConvertConfig:
    """avssl models convert"""

    name: str = option(MISSING, "a published model, as `avssl models` lists them")
    file: str = option(MISSING, "its file, as published", path="file")
    out: str = option("", "file to write; empty is where avssl.load looks for the name", path="new file")
