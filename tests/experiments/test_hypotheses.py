"""The table of the nine hypotheses: its figures, its margins, and an experiment that goes on."""

import io
import json
import shutil

import pytest
from rich.console import Console
from rich.markdown import Markdown

from avssl.cli import main as avssl
from experiments.__main__ import main
from experiments.hypotheses import COLUMNS, UNTRAINED, VIEWS, lines


def scores(direction):
    """What `avssl evaluate` gives, with these accuracies for the direction by (preset, seed)."""
    retrieval = {"digit": {"video_audio_others": 0.5, "audio_video_others": 0.75}}
    return {
        job: {p: {v: {"direction": x, "digit": 0.5} for v in VIEWS} for p in ("linear", "knn")}
        | {"cross_modal": retrieval}
        for job, x in direction.items()
    }


def test_the_table_and_its_margins():
    found = lines(
        scores({(2, 0): 0.9, (2, 1): 1.0, (3, 0): 0.5, (3, 1): 0.7, (UNTRAINED, 0): 0.5, (UNTRAINED, 1): 0.5}),
        [2, 3],
        [0, 1],
    )
    assert "| 2 | distinct |  | 95.0 ± 7.1 | 95.0 ± 7.1 | 50.0 ± 0.0 | 50.0 ± 0.0 |" in found
    assert "| 3 | invariant |  | 60.0 ± 14.1 | 60.0 ± 14.1 | 50.0 ± 0.0 | 50.0 ± 0.0 |" in found
    assert "| untrained |  |  | 50.0 ± 0.0 | 50.0 ± 0.0 | 50.0 ± 0.0 | 50.0 ± 0.0 |" in found
    # +40 points with seed 0, +30 with seed 1
    assert f"| distinct − invariant | {VIEWS[0]} | +35.0 ± 7.1 | +35.0 ± 7.1 |" in found
    assert "| 2 | distinct |  | 50.0 ± 0.0 | 75.0 ± 0.0 |" in found
    assert not [line for line in found if "distinct − off" in line]
    assert not [line for line in lines(scores({(1, 0): 0.5, (UNTRAINED, 0): 0.5}), [1], [0]) if "points" in line]


def test_one_seed_has_no_deviation_and_headings_fit_a_terminal():
    found = lines(scores({(1, 0): 0.5, (UNTRAINED, 0): 0.5}), [1], [0])
    assert "one seed" in found[0]
    assert "deviation" not in found[0]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(Markdown("\n".join(found)))
    assert "…" not in console.export_text()


def test_an_experiment_goes_on(tmp_path, capsys, monkeypatch):
    """Its commands run in this process: test_jobs.py is about those of their own."""

    def here(command, words, folder):
        assert avssl([command, *words]) == 0

    monkeypatch.setattr("experiments.hypotheses.avssl", here)
    # a training sets handlers of signals, which only a main thread may
    one_by_one = lambda do, wanted, jobs: {job: do(job) for job in wanted}  # noqa: E731
    monkeypatch.setattr("experiments.hypotheses.run_parallel", one_by_one)
    out = tmp_path / "it's (one) experiment"
    words = ["hypotheses", f'out="{out}"', "presets=[1,4]", "seeds=[3]", "train=3", "test=2", "epochs=1", "device=cpu"]
    assert main(words) == 0
    table, figures = (out / "table.md").read_text(), (out / "table.json").read_text()
    found = {(row["preset"], row["seed"]): row for row in json.loads(figures)}
    assert found.keys() == {(UNTRAINED, 3), (1, 3), (4, 3)}
    assert found[4, 3]["step"] == 1
    assert set(found[1, 3]["linear"]["video"]) == set(COLUMNS)
    assert str(out / "table.md") in capsys.readouterr().out.replace("\n", "")
    kept = (out / "preset_1_seed3" / "checkpoints").stat().st_mtime_ns
    shutil.rmtree(out / "preset_4_seed3")
    assert main(words) == 0
    assert (out / "table.md").read_text() == table
    assert (out / "preset_1_seed3" / "checkpoints").stat().st_mtime_ns == kept
    # another first preset
    assert main([w.replace("presets=[1,4]", "presets=[4]") for w in words]) == 0
    assert {row["preset"] for row in json.loads((out / "table.json").read_text())} == {UNTRAINED, 4}
    capsys.readouterr()
    assert main([*words, "epochs=2"]) == 2
    assert "epochs=1, not 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["presets=[0]"], "presets=0 is below the minimum 1"),
        (["presets=[10]"], "presets=10 is above the maximum 9"),
        (["presets=[]"], "presets=[] is empty"),
        (["presets=[4,4]"], "presets has 4 more than once"),
        (["seeds=[]"], "seeds"),
    ],
)
def test_wrong_words(words, said, tmp_path, capsys):
    assert main(["hypotheses", f"out={tmp_path / 'x'}", *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
