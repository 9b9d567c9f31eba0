"""The GPU's page, here with the CPU and small sizes: every part runs, and one that fails leaves the others."""

import json

import pytest

from benchmarks import gpu
from benchmarks.__main__ import main
from benchmarks.gpu import Found, page, run_part
from benchmarks.gpu_parts import OBJECTIVES, Job, decode, files, memory, plan, profile, steps, waiting
from benchmarks.options import BenchGpuConfig

QUICK = BenchGpuConfig(device="cpu", quick=True)


def test_parts_in_processes_make_a_page(tmp_path, capsys):
    words = ["gpu", "device=cpu", "quick=true", "parts=[labelling,decode]", f"out={tmp_path}"]
    assert main(words) == 0
    text, figures = (tmp_path / "gpu.md").read_text(), json.loads((tmp_path / "gpu.json").read_text())
    assert "| torch | " in text
    assert "## A labelling pass" in text
    assert "Not measured: there are no files" in text
    assert figures["labelling"]["records"][0]["videos/s"] > 0
    assert figures["options"]["quick"] is True
    assert "the figures mean nothing" in capsys.readouterr().out


def test_every_part_has_a_limit_and_a_function():
    assert sum(limit for limit, _ in gpu.PARTS.values()) >= gpu.TOTAL  # the parts rarely take all of theirs
    assert ["machine", *BenchGpuConfig().parts] == list(gpu.PARTS)


def test_a_part_that_takes_too_long_is_stopped():
    found = run_part("machine", QUICK, "", {}, 0.01)
    assert found.error == "stopped after 0 s"
    assert run_part("machine", QUICK, "", {}, 0).error.startswith("not begun")


def test_an_error_of_a_part_is_its_reason():
    found = run_part("unknown", QUICK, "", {}, 600)
    assert found.error.startswith("AttributeError: ")
    assert "Not measured: AttributeError" in "\n".join(page(QUICK, {"steps": found}))


def test_steps_memory_and_kernels(tmp_path, monkeypatch):
    monkeypatch.setattr(Job, "budget", 0.001)
    job = Job(QUICK, tmp_path, {})
    assert [record["objective"] for record in steps(job)[0]] == list(OBJECTIVES)
    assert all(record["ratio"] > 0 for record in steps(job)[0])
    assert all(record["estimate, GB"] > 0 for record in memory(job)[0])
    assert len(profile(job)[0]) == 10


def test_files_are_decoded_and_planned(tmp_path, monkeypatch):
    monkeypatch.setattr(Job, "budget", 0.001)
    monkeypatch.setattr("benchmarks.gpu_parts.DECODED", ("labels (SeLaVi)",))
    job = Job(QUICK, tmp_path, {})
    assert files(job)[0][0]["files"] == 2
    assert decode(job)[0][0]["clips/s"] > 0
    waited = Found(waiting(job)[0])
    assert all(0 <= record["waiting"] <= 1 for record in waited.records)
    job.before["waiting"] = waited
    assert all(record["planned / measured"] > 0 for record in plan(job)[0])


@pytest.mark.parametrize("words", [["gpu", "device=gpu"], ["gpu", "parts=[speed]"], ["gpu", "batch=-1"]])
def test_wrong_words(words, capsys):
    assert main(words) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_without_a_gpu_it_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("avssl.core.device.GPUS", ())
    assert main(["gpu"]) == 2
    assert "this machine has no such device" in capsys.readouterr().err
