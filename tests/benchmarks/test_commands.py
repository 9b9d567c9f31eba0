"""`python -m benchmarks`: an overview, help, and one line for wrong words that names this command."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS, main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["contrsat"], "did you mean contrast? (python -m benchmarks --help lists them)"),
        (["loader", "itms=3"], "did you mean items? (python -m benchmarks loader --help lists them)"),
        (["loader", "clip=tinny"], "did you mean tiny?"),
        (["contrast", "videos=[1]"], "videos=1 is below the minimum 2 videos"),
        (["heads"], "runs is needed"),
        (["loader", "--multirun"], "is for avssl train, not loader"),
    ],
)
def test_wrong_words_are_one_line_with_status_2(words, said, capsys):
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("benchmarks: ")
    assert said in line


def test_the_overview_names_every_benchmark(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in BENCHMARKS.commands)


@pytest.mark.parametrize("name", BENCHMARKS.commands)
def test_help_lists_options_and_examples(name, capsys):
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"python -m benchmarks {name} ")
    assert "Examples" in out
    assert "Options" in out


def test_presets_are_those_of_the_product(capsys):
    assert main(["loader", "--help"]) == 0
    assert "clip=" in capsys.readouterr().out


@pytest.mark.parametrize("package", ["benchmarks", "experiments"])
def test_the_module_runs_in_a_checkout(package):
    command = [sys.executable, "-m", package, "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{package} ")


def test_the_product_imports_neither():
    """`avssl` is alone in the wheel. That the pattern finds imports is seen in the benchmarks' own."""
    outside = re.compile(r"^ *(from|import) (benchmarks|experiments|tests)\b", re.MULTILINE)
    assert outside.search((ROOT / "benchmarks" / "__main__.py").read_text())
    assert [path for path in (ROOT / "avssl").rglob("*.py") if outside.search(path.read_text())] == []
