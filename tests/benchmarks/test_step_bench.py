"""The bench of a step times a run beside its bare parts."""

from pathlib import Path

import numpy as np
import pytest

from avssl.clips.decoders import pyav
from avssl.clips.decoders.span import ClipSpan, ClipSpec
from avssl.config.compose import compose_config
from benchmarks.__main__ import BENCHMARKS
from benchmarks.bare import record, replay
from benchmarks.loader_files import make_files
from benchmarks.options import BenchStepConfig
from benchmarks.step import main


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_files(tmp_path_factory.mktemp("files"), ["h264"], 1, 4.0, 0)["h264"][0]


def test_bare_calls_are_those_of_reading(path: Path, monkeypatch) -> None:
    spec = ClipSpec(frames=10, fps=30.0, audio_rate=24000, audio_seconds=0.5)
    spans = [ClipSpan(0.5, spec), ClipSpan(3.0, spec)]
    calls = record(path, spans, 64)
    kinds = [call[0] for call in calls]
    assert kinds.count("open") == 1
    assert kinds.count("scale") == 20
    assert kinds.count("resample") == 2
    scaled: list[np.ndarray] = []
    resize = pyav.Resizer.__call__

    def noted(self, frame, *rest):
        found = resize(self, frame, *rest)
        scaled.append(np.frombuffer(found.planes[2], np.uint8).reshape(-1, found.planes[2].line_size)[:64, :85].copy())
        return found

    monkeypatch.setattr(pyav.Resizer, "__call__", noted)
    replay(calls)
    monkeypatch.undo()
    red = np.concatenate([clip.frames[..., 0] for clip in pyav.read(path, spans, 64)])
    np.testing.assert_array_equal(np.stack(scaled), red)


def test_a_labelling_run_beside_its_parts(tmp_path: Path, capsys) -> None:
    words = ["tasks=[selavi]", "files=4", "batch=2", "steps=4", "seconds=3", f"out={tmp_path}"]
    words += ["words=[clip=tiny,labelling.clusters=2,labelling.heads=1,labelling.passes=2]"]
    found = main(compose_config("step", BenchStepConfig, words, folder=BENCHMARKS.configs))
    steps, passes = [t for t in found if not t.labelling], [t for t in found if t.labelling]
    assert len(steps) == 4
    assert len(passes) == 2
    for times in steps:
        assert {"whole", "read", "decode", "inputs", "model"} == set(times.parts)
        assert 0 < times.parts["read"][0] < times.parts["whole"][0]
    assert {"whole", "read", "decode", "inputs", "model", "solver"} == set(passes[-1].parts)
    text = (tmp_path / "step_selavi.md").read_text()
    assert "reading / bare decode" in text
    assert "bare solver" in (tmp_path / "labelling_selavi.md").read_text()
