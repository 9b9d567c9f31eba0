"""Files of the project that other tools read: CITATION.cff and the Dockerfile."""

import fnmatch
import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
tomllib = pytest.importorskip("tomllib")  # of Python 3.11
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their words."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    return [(name, words) for name, _, words in (line.partition(" ") for line in lines)]


def test_the_citation_is_of_this_version_and_has_what_the_format_needs():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0"
    assert (cited["version"], cited["license"]) == (PROJECT["version"], PROJECT["license"])
    assert {"message", "title", "authors"} <= cited.keys()
    for entry in cited["references"]:
        assert {"type", "title", "authors", "year", "url"} <= entry.keys()
        assert all(isinstance(author["family-names"], str) for author in entry["authors"])


def test_the_image_installs_what_the_wheel_needs():
    said = instructions()
    assert said[0][0] == "FROM"
    (version,) = re.findall(r"python:3\.(\d+)-slim", said[0][1])
    (least,) = re.findall(r">=3\.(\d+)", PROJECT["requires-python"])
    assert int(version) >= int(least)
    torch = next(words for name, words in said if name == "RUN" and "torch" in words)
    for package in re.findall(r'"(torch[^"]*)"', torch):
        assert package in PROJECT["dependencies"]


def test_the_image_runs_avssl_as_a_user_without_rights():
    said = dict(instructions())
    (program,) = json.loads(said["ENTRYPOINT"])
    assert program in PROJECT["scripts"]
    assert said["USER"] == "avssl"
    assert "root" not in said["USER"]


@pytest.mark.parametrize("name", ["dist/avssl-0.2.0-py3-none-any.whl"])
def test_docker_sees_the_wheel_and_nothing_else(name):
    copied = next(words.split()[0] for what, words in instructions() if what == "COPY")
    everything, *kept = (ROOT / ".dockerignore").read_text().split()
    assert everything == "*"
    assert kept == [f"!{copied}"]
    assert fnmatch.fnmatch(name, copied)
