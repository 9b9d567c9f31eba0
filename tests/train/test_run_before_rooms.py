"""A run folder of the version before encoders, heads and options had today's names opens, resumes and labels as it did.

`tests/golden/run_before_rooms` is one, stopped before its last step, with what that version made of it."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from avssl.cli import main
from avssl.config.run_folder import read_config
from avssl.explore.assignments import read_assignments
from avssl.runs.checkpoints import load_run_state
from avssl.train.loop import run

BEFORE = Path(__file__).parents[1] / "golden" / "run_before_rooms"
EXPECTED = json.loads((BEFORE / "expected.json").read_text())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    sizes = ["classes=2", "train=4", "test=2", "size=32", "seed=1", "workers=1"]
    assert main(["sample", "out=videos", *sizes]) == 0
    assert main(["index", "data.root=videos", "data.index=index", "workers=1"]) == 0
    shutil.copytree(BEFORE, tmp_path / "run")
    return tmp_path / "run"


def test_it_resumes_and_labels_as_it_did(folder: Path) -> None:
    run(read_config(folder))
    state = load_run_state(folder)
    assert state["step"] == EXPECTED["step"]
    assert state["labeller"]["labels"].tolist() == EXPECTED["labels"]
    weights = sum(float(x.double().abs().sum()) for x in state["model"].values() if x.is_floating_point())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if line["kind"] == "train"][-1]
    # bit for bit on the machine that made them; another's libraries may round otherwise
    assert weights == pytest.approx(EXPECTED["weights"]["sum"], rel=1e-6)
    for name in ("loss", "contrast_loss"):
        assert last[name] == pytest.approx(EXPECTED[name], rel=1e-3)
    assert main(["clusters", f"run={folder}", "workers=0", "previews=0", "out=clusters"]) == 0
    found = read_assignments(Path("clusters"))
    for at, path in enumerate(found.path):
        label, confidence = EXPECTED["assignments"][path]
        assert found.label[at, 0] == label
        assert found.confidence_joint[at, 0] == pytest.approx(confidence, abs=1e-3)
    assert len(found.path) == len(EXPECTED["assignments"])


def test_it_is_evaluated_exported_and_labels_new_videos(folder: Path) -> None:
    assert main(["evaluate", "run=run", "tasks=[retrieval]", "workers=0"]) == 0
    assert main(["label", "run=run", "videos=videos/test", "workers=0", "reject=0"]) == 0
    assert main(["export", "run=run", "modality=audio", "format=safetensors"]) == 0
    with torch.no_grad():
        before = torch.load(folder / "checkpoints" / "step_0000000005" / "state.ckpt", weights_only=True)["model"]
    from safetensors.torch import load_file

    exported = load_file(folder / "export" / "audio.safetensors")
    assert all(torch.equal(x, before[f"audio.{name}"]) for name, x in exported.items())
