"""The options of the commands for run folders, exports and published weights."""

from dataclasses import dataclass
from typing import ClassVar

from .model import trusted
from .option import DAY, MISSING, json_option, option


@dataclass
class RunsConfig:
    """avssl runs"""

    folder: str = option("runs", "folder that contains run folders, at any depth", path="folder")
    json: bool = json_option()


@dataclass
class WatchConfig:
    """avssl watch"""

    any_run: ClassVar[bool] = True
    """The newest run is watched, finished or not."""

    run: str = option(MISSING, "run folder that `avssl train` wrote", path="run")


@dataclass
class SummaryConfig:
    """avssl summary"""

    runs: list[str] = option([], "run folders to compare", path="run", unique=True)
    of: str = option(
        "clusters",
        "clusters: the NMI that `avssl clusters` computed; evaluate: all results of `avssl evaluate`, each beside "
        "that with random=true",
        choices="clusters evaluate",
    )
    out: str | None = option(None, "Markdown file for the table, for of=evaluate; none: print only", path="new file")


@dataclass
class ExportConfig:
    """avssl export"""

    one_of: ClassVar[tuple[str, ...]] = ("run", "checkpoint")
    """Options of which a user gives exactly one; on the command line, the newest run if none is given."""

    modality: str = option(MISSING, "encoder to export", choices="video audio")
    format: str = option(
        "onnx", "onnx: for onnxruntime; torch_export: a torch.export program (.pt2); safetensors: only the weights",
        choices="onnx torch_export safetensors",
    )  # fmt: skip
    run: str = option("", "run folder that `avssl train` wrote", path="run")
    checkpoint: str = option(
        "", "instead of run: one checkpoint of a run, or published weights (their file or their name)", path="either"
    )
    trust: list[str] = trusted()
    heads: bool = option(False, "also export the cluster heads")
    out: str = option(
        "",
        "file to write; empty: export/<modality> in the run's folder, or export/<checkpoint>_<modality> in the working "
        "folder",
        path="new file",
    )
    tolerance: float = option(
        1e-3,
        "largest allowed difference between the outputs of the export and of the encoder, as a fraction of the "
        "largest output",
        minimum=0,
        maximum=1,
    )


@dataclass
class ModelsConfig:
    """avssl models"""


@dataclass
class ModelsShowConfig:
    """avssl models show"""

    name: str = option(MISSING, "name of a published model; `avssl models` lists them")


@dataclass
class ModelsFetchConfig:
    """avssl models fetch"""

    name: str = option(MISSING, "name of a published model; `avssl models` lists them")
    accept_licence: bool = option(False, "confirm that you accept the licence that the command prints")
    sha256: str = option(
        "",
        "checksum of the file, 64 hexadecimal digits; required if its authors published none",
        pattern="[0-9a-fA-F]{64}",
    )
    url: str = option("", "download the same file from another address")
    timeout: float = option(60.0, "give up if the server sends nothing for this long", "s", minimum=0.1, maximum=DAY)


@dataclass
class ModelsConvertConfig:
    """avssl models convert"""

    name: str = option(MISSING, "name of a published model; `avssl models` lists them")
    file: str = option(MISSING, "the model's file, as its authors published it", path="file")
    out: str = option("", "file to write; empty: the place where `avssl.load` looks for the name", path="new file")


@dataclass
class CompletionConfig:
    """avssl completion"""

    shell: str = option(MISSING, "your shell", choices="bash zsh fish")
