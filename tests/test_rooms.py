"""The house: no import runs up the list of rooms, and no room, no file and not the training loop grows too large."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "avssl"
ROOMS = [
    "core", "config", "metrics", "sample", "videos", "clips", "models", "selflabel", "contrast", "objectives", "train",
    "runs", "evaluate", "explore", "label", "locate", "launch", "plan", "commands", "help", "completion", "cli", "api",
    "__main__",
]  # fmt: skip
"""Each imports only from itself and from those before it."""
FOR_ALL = {"avssl", "assets"}
"""The package itself, for its version, and the folders beside it."""
OF_TENSORS = {"selflabel": {"core", "metrics"}, "contrast": {"core", "metrics"}}
"""These run in a notebook: the only rooms that they import from."""
OF_THE_PACKAGE = {"avssl.core.version", "avssl.api"}
"""What avssl/__init__.py may import; `avssl.load` is the one arrow that runs up. The table in commands.py names
functions of all rooms, and imports none of them."""
FILES = sorted(ROOT.rglob("*.py"))


def code_of(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those under `if TYPE_CHECKING:`, which never run."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from (part for other in node.orelse for part in (other, *code_of(other)))
        else:
            yield node
            yield from code_of(node)


def imports(source: str, package: list[str]) -> Iterator[str]:
    """The modules that a file of `package` imports, in full, wherever in the file it does."""
    for node in code_of(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            # `from .. import config` names a room, `from ..core.text import plural` a function of a module
            yield from (f"{module}.{alias.name}" if module == "avssl" else module for alias in node.names)


def room_of(module: str) -> str:
    """`core` of avssl.core.text; `avssl` of avssl itself."""
    names = module.split(".")
    return names[1] if len(names) > 1 and (names[1] in ROOMS or (ROOT / names[1]).is_dir()) else names[0]


def wrong_arrows(path: str, source: str) -> list[str]:
    """The imports of a file of avssl, at `path` from the repository's root, that it must not have."""
    package = list(Path(path).parent.parts)
    room = room_of(".".join([*package, Path(path).stem]))
    wrong = []
    for module in {*imports(source, package)}:
        other = room_of(module)
        if room == "avssl":
            allowed = module in OF_THE_PACKAGE
        elif room in OF_TENSORS:
            allowed = other in OF_TENSORS[room] | {room}
        else:
            allowed = other in FOR_ALL | {room, *ROOMS[: ROOMS.index(room)]}
        if not allowed and module.split(".")[0] in ("avssl", "benchmarks", "experiments"):
            wrong.append(f"{path} → {module}")
    return sorted(wrong)


def test_every_folder_is_a_room() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders - {*ROOMS, "assets"} == set()


def test_no_import_runs_up() -> None:
    files = ((path.relative_to(ROOT.parent), path.read_text()) for path in FILES)
    arrows = [x for path, text in files if room_of(".".join(path.parts)) in {*ROOMS, "avssl"}
              for x in wrong_arrows(path.as_posix(), text)]  # fmt: skip
    assert not arrows, "imports from a room that comes later:\n" + "\n".join(arrows)


@pytest.mark.parametrize(
    ("path", "line", "module"),
    [
        ("avssl/core/text.py", "from ..config import TrainConfig", "avssl.config"),
        ("avssl/core/text.py", "from .. import config", "avssl.config"),
        ("avssl/core/text.py", "import avssl.cli", "avssl.cli"),
        ("avssl/clips/decoders/pyav.py", "from ...train.loop import run", "avssl.train.loop"),
        ("avssl/videos/index.py", "def f():\n    from ..clips.decode import read_clips", "avssl.clips.decode"),
        ("avssl/selflabel/memory.py", "from ..config import LabellingConfig", "avssl.config"),
        ("avssl/contrast/loss.py", "from ..selflabel.memory import Queue", "avssl.selflabel.memory"),
        ("avssl/plan/table.py", "from benchmarks.loader import measure", "benchmarks.loader"),
        ("avssl/plan/table.py", "from avssl.api import load", "avssl.api"),
        ("avssl/core/text.py", "import avssl.launch.local", "avssl.launch.local"),
        ("avssl/__init__.py", "from .train.loop import run", "avssl.train.loop"),
    ],
)
def test_an_import_that_runs_up_is_found(path: str, line: str, module: str) -> None:
    assert wrong_arrows(path, line) == [f"{path} → {module}"]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("avssl/core/text.py", "from .errors import UserError\nfrom .. import __version__\nimport av"),
        ("avssl/core/text.py", "if TYPE_CHECKING:\n    from ..config import TrainConfig"),
        ("avssl/config/compose.py", "from ..assets import assets_root"),
        ("avssl/train/loop.py", "from ..clips.loader import load"),
        ("avssl/cli.py", "from . import config as configs\nfrom .plan.table import show"),
        ("avssl/__init__.py", "from .api import load"),
    ],
)
def test_an_import_that_runs_down_is_none(path: str, line: str) -> None:
    assert wrong_arrows(path, line) == []


def test_no_room_and_no_file_is_too_large() -> None:
    lines = {path: path.read_text().count("\n") for path in FILES}
    assert {str(path.relative_to(ROOT)): n for path, n in lines.items() if n > 500} == {}
    rooms = {path.name: sum(n for file, n in lines.items() if path in file.parents) for path in ROOT.iterdir()}
    widest = max(rooms, key=lambda name: rooms[name])
    assert rooms[widest] < sum(lines.values()) / 5, f"{widest} has a fifth of all code"
    assert lines[ROOT / "train" / "loop.py"] <= 120, "the training loop is one page"
