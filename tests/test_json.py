"""`json=true` through a pipe: one document, and nothing else on standard output."""

import json
import subprocess
import sys
from typing import Any

import pytest


def document(*words: str) -> tuple[dict[str, Any], str]:
    """What a command prints with json=true: the document, and standard error."""
    done = subprocess.run([sys.executable, "-m", "avssl", *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout, parse_constant=pytest.fail), done.stderr


def test_index_and_doctor(indexed):
    found, said = document("index", *indexed, "workers=1", "--json")
    assert found["splits"] == {"test": {"videos": 12, "rows": 12}, "train": {"videos": 36, "rows": 36}}
    assert found["rejected"] == {}
    assert found["index"] == indexed[1].partition("=")[2]
    assert {"probed_files", "probing_seconds", "too_short_for_two_clips"} <= found.keys()
    assert "36 usable" in said
    found, said = document("doctor", indexed[1], "duplicates=false", "json=true")
    assert (found["files"], found["usable"], found["rejected"]) == (48, 48, 0)
    assert found["splits"]["train"]["files"] == 36
    assert {finding["finding"] for finding in found["findings"]} == {"short for shifts"}
    assert "page: " in said


def test_an_error_leaves_standard_output_empty(tmp_path):
    words = [sys.executable, "-m", "avssl", "index", f"data.root={tmp_path / 'none'}", "json=true"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "does not exist" in done.stderr.splitlines()[-1]
