"""`avssl evaluate` as a user runs it: every source, every task but finetuning, and what it writes."""

import csv
import importlib.util
import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torchvision

from avssl.cli import main
from avssl.clips.dataset import ClipDataset
from avssl.config import EvaluateConfig, ModelConfig
from avssl.config.compose import compose_config
from avssl.core.errors import UserError
from avssl.core.part import Part
from avssl.evaluate import evaluate_parts, feature_shards
from avssl.models import build_multi_stream
from avssl.models.zoo import convert_gdt, load_published
from avssl.videos.index import read_index

TRAIN = [
    "experiment=selavi_sample", "task=both", "contrast=cross_modal", "labelling.clusters=3", "labelling.heads=2",
    "labelling.passes=3", "labelling.warmup_batches=1", "optim.epochs=1", "optim.batch=8", "workers=0", "device=cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(indexed, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "a run"
    assert main(["train", *indexed, *TRAIN, f"out='{out}'"]) == 0
    return out


def test_every_task_gives_a_table(run, capsys):
    words = ["evaluate", f"run='{run}'", "workers=0", "clips=2", "seeds=3", "shots=[1,2]"]
    assert main(words) == 0
    said = capsys.readouterr().out
    figures = json.loads((run / "evaluate" / "evaluate.json").read_text())
    views = {"video", "audio", "both", "video embedding", "audio embedding"}
    for task in ("linear", "knn"):
        assert figures[task].keys() == views
        assert all(0 <= by["class"] <= 1 for by in figures[task].values())
    few = figures["few_shot"]["both"]["class"]
    assert few.keys() == {"1", "2"}
    assert len(few["2"]["values"]) == 3
    assert few["2"]["mean"] == pytest.approx(np.mean(few["2"]["values"]))
    assert figures["retrieval"]["class"].keys() == {"1", "5", "10", "20", "50"}
    assert figures["retrieval"]["class"]["50"] == 1.0  # of 36 training videos
    assert figures["clustering"]["class"]["kmeans"].keys() == views
    for of in figures["clustering"]["class"]["kmeans"].values():
        assert len(of["inertia"]) == 3  # one a start
        assert 0 <= of["nmi"]["lowest_inertia"] <= 1
    assert figures["clustering"]["class"]["labels"]["evidence"].keys() == {"joint", "video", "audio"}
    assert 0 <= figures["cross_modal"]["class"]["video_audio"] <= 1
    assert figures["videos"] == {"train": 36, "test": 12, "failed": 0}
    for title in (
        "accuracy of the class on the test split",
        "a few labelled videos",
        "recall at k",
        "clustering of the test split",
    ):
        assert title in " ".join(said.split())
    tex = (run / "evaluate" / "evaluate.tex").read_text()
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 4
    assert r"\pm" in tex
    for plot in ("recall", "confusion", "cluster_sizes"):
        assert (run / "evaluate" / f"{plot}.png").read_bytes().startswith(b"\x89PNG")
    with (run / "evaluate" / "few_shot_draws.csv").open(newline="") as file:
        draws = list(csv.DictReader(file))
    assert len(draws) == 3 * (1 + 2) * 3  # classes, shots, seeds
    assert {d["seed"] for d in draws} == {"0", "1", "2"}
    last = said.splitlines()[-1]
    assert last.startswith(f"linear probe {100 * figures['linear']['both']['class']:.1f} (both) · 20-NN ")
    assert "NMI of the clusters" in last
    # again: features are found, and figures are the same
    assert main([*words, "json=true"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["out"] == str(run / "evaluate")
    assert found["linear"] == figures["linear"]
    assert "measure | split" in (run / "model_card.md").read_text()
    assert "| linear probe, both | test |" in (run / "model_card.md").read_text()
    assert json.loads((run / "evaluate" / "evaluate.json").read_text()) == figures
    # the encoders before training, beside them
    assert main([*words, "random=true", "tasks=[linear,retrieval]"]) == 0
    assert json.loads((run / "evaluate" / "evaluate_random.json").read_text())["step"] == 0


def test_the_line_says_what_was_written(run, tmp_path, monkeypatch, capsys):
    words = ["evaluate", f"run='{run}'", "workers=0", f"out={tmp_path}"]
    assert main([*words, "tasks=retrieval"]) == 0
    assert f"figures, LaTeX tables and plots: {tmp_path}\n" in capsys.readouterr().out
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main([*words, "tasks=retrieval"]) == 0
    assert f"figures and LaTeX tables: {tmp_path}; no plots: matplotlib is not installed\n" in capsys.readouterr().out
    assert main([*words, "tasks=linear"]) == 0
    assert f"figures and LaTeX tables: {tmp_path}\n" in capsys.readouterr().out  # it has no plots


def test_robustness_has_a_row_for_every_damage(run, tmp_path, capsys):
    assert main(["evaluate", f"run='{run}'", "workers=0", "tasks=[robustness]", f"out={tmp_path}"]) == 0
    found = json.loads((tmp_path / "evaluate.json").read_text())["robustness"]["class"]
    assert found["none"].keys() == {"joint", "video", "audio"}
    for damage, by_evidence in found.items():
        alone = "video" if "sound" in damage else "audio"
        assert by_evidence[alone]["nmi"] == found["none"][alone]["nmi"]
    assert found["no sound"]["audio"]["used"] == 1  # one sound, one label
    assert (tmp_path / "robustness.png").stat().st_size > 1000
    assert "picture / 16" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_features_from_a_file(indexed, kind, tmp_path):
    index = indexed[1].split("=", 1)[1]
    rows = pa.concat_tables([read_index(index, split) for split in ("train", "test")])
    names = sorted(set(rows["class"].to_pylist()))
    features = np.eye(3, 8, dtype=np.float32)[[names.index(c) for c in rows["class"].to_pylist()]]
    path = tmp_path / f"mine.{kind}"
    if kind == "npz":
        np.savez(path, path=np.array(rows["path"].to_pylist()), features=features)
    else:
        pq.write_table(pa.table({"path": rows["path"], "features": features.tolist()}), path)
    words = [*indexed, f"features={path}", f"out={tmp_path / 'out'}", "seeds=2", "shots=[1]"]
    assert main(["evaluate", *words]) == 0
    figures = json.loads((tmp_path / "out" / "evaluate.json").read_text())
    assert figures["linear"]["features"]["class"] == 1.0
    assert figures["knn"]["features"]["class"] == 1.0
    assert figures["few_shot"]["features"]["class"]["1"]["mean"] == 1.0
    assert figures["retrieval"]["class"]["1"] == 1.0
    assert figures["clustering"]["class"]["kmeans"]["features"]["nmi"]["mean"] == pytest.approx(1)
    assert figures["cross_modal"] is None


def test_features_that_are_no_numbers(indexed, tmp_path, capsys):
    rows = pa.concat_tables([read_index(indexed[1].split("=", 1)[1], split) for split in ("train", "test")])
    paths = rows["path"].to_pylist()
    features = np.ones((len(paths), 4), np.float32)
    features[3, 1], features[5] = np.nan, np.inf
    np.savez(tmp_path / "mine.npz", path=np.array(paths), features=features)
    assert main(["evaluate", *indexed, f"features={tmp_path / 'mine.npz'}", f"out={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err.strip()
    assert "features of 2 videos are NaN or infinite; the first is " in error
    assert error.count("\n") == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "mine.npz does not exist"),
        (b"text", "cannot be read as features"),
        ("shape", "shape [4]"),
        ("other", "matches no video"),
    ],
)
def test_features_that_are_none(indexed, content, said, tmp_path, capsys):
    path = tmp_path / "mine.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.savez(path, path=np.array(list("abcd")), features=np.zeros(4 if content == "shape" else (4, 2)))
    assert main(["evaluate", *indexed, f"features={path}", f"out={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.count("\n") == 0


def published_gdt():
    torch.manual_seed(0)
    ours = build_multi_stream(ModelConfig(), projection=256).eval()
    state = {}
    for key, value in ours.state_dict().items():
        for new, theirs in (
            ("encoders.video.base.", "video_network.base."),
            ("encoders.audio.base.", "audio_network.base."),
        ):
            if key.startswith(new):
                state["module." + theirs + key.removeprefix(new)] = value
        for m in ("video", "audio"):
            for part, place in (("hidden", 2), ("norm", 4), ("out", 8)):
                if key.startswith(f"heads.contrast.{m}.{part}."):
                    kind = key.rpartition(".")[2]
                    value = value[0] if part != "norm" else value
                    state[f"module.mlp_{m[0]}.block_forward.{place}.{kind}"] = value
    return ours, state


def test_published_checkpoints_of_every_family_load(tmp_path):
    ours, state = published_gdt()
    torch.save({"model": state, "epoch": 1}, tmp_path / "gdt.pth")
    family, model = load_published(tmp_path / "gdt.pth")
    assert family == "gdt"
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), model.state_dict().values(), strict=True))
    video_only = {k: v for k, v in state.items() if "audio" not in k and "mlp_a" not in k}
    assert "audio" not in {k.split(".")[1] for k in convert_gdt(video_only)}
    torch.save({"model": video_only}, tmp_path / "tower.pth")
    assert list(load_published(tmp_path / "tower.pth")[1].encoders) == ["video"]
    theirs = torchvision.models.video.r2plus1d_18(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "r2plus1d_18.pth")
    family, model = load_published(tmp_path / "r2plus1d_18.pth")
    assert family == "torchvision"
    x = torch.randn(1, 3, 4, 32, 32)
    theirs.fc = torch.nn.Identity()
    with torch.no_grad():
        assert torch.equal(model.encoders["video"](x), theirs(x))


@pytest.mark.slow
def test_a_published_checkpoint_is_evaluated(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("avssl.evaluate.features.CHUNK", 2)  # clips encoded at once, however few there are
    assert main(["sample", "out=few", "classes=2", "train=1", "test=1", "workers=1"]) == 0
    assert main(["index", "data.root=few", "data.index=index", "workers=1"]) == 0
    indexed = ["data.root=few", "data.index=index"]
    capsys.readouterr()
    torch.save({"model": published_gdt()[1], "epoch": 1}, tmp_path / "gdt.pth")
    assert main(["evaluate", *indexed, "checkpoint=gdt.pth", "tasks=[linear]", "clips=2", "workers=0"]) == 0
    figures = json.loads((tmp_path / "evaluate" / "gdt" / "evaluate.json").read_text())
    assert figures["linear"].keys() == {"video", "audio", "both", "video embedding", "audio embedding"}
    assert main(["evaluate", "checkpoint=gdt.pth"]) == 2
    assert "an index is needed" in capsys.readouterr().err
    with (tmp_path / "code.pth").open("wb") as file:
        pickle.dump({"model": print}, file)
    assert main(["evaluate", *indexed, "checkpoint=code.pth"]) == 2
    assert "can be loaded safely" in capsys.readouterr().err
    torch.save({"model": {"weight": torch.zeros(1)}}, tmp_path / "other.pth")
    assert main(["evaluate", *indexed, "checkpoint=other.pth"]) == 2
    assert "is not a checkpoint of SeLaVi, GDT or torchvision" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tasks=[retreival]"], "did you mean retrieval?"),
        (["tasks=[linaer]"], "did you mean linear?"),
        (["folds=[1,2]"], "an index each"),
        (["columns=[]"], "columns=[] is empty"),
    ],
)
def test_wrong_words(run, words, said, capsys):
    assert main(["evaluate", f"run='{run}'", "workers=0", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.count("\n") == 0


def test_runs_side_by_side(run, tmp_path, capsys):
    words = ["workers=0", "clips=1", "seeds=2", "shots=[1]", "tasks=[linear,few_shot,retrieval,cross_modal,clustering]"]
    for extra in ([], ["random=true"]):
        assert main(["evaluate", f"run='{run}'", *words, *extra]) == 0
    table, again = tmp_path / "table.md", tmp_path / "again"
    again.symlink_to(run)
    assert main(["summary", f"runs=['{run}','{again}']", "of=evaluate", f"out={table}"]) == 0
    lines = table.read_text().splitlines()
    figures = json.loads((run / "evaluate" / "evaluate.json").read_text())
    value = 100 * figures["linear"]["video"]["class"]
    row = next(line for line in lines if line.startswith("| linear probe, video |"))
    assert row.endswith(f"| {value:.1f} ± 0.0 |")
    assert len([line for line in lines if line.startswith("| 1-shot")]) == 5
    # untrained heads have no transport cost to be chosen by
    assert next(line for line in lines if "cluster labels, joint" in line).count("±") == 1
    (tmp_path / "config.yaml").write_text("")  # a run without figures
    assert main(["summary", f"runs=['{tmp_path}']", "of=evaluate"]) == 2
    assert "run `avssl evaluate " in capsys.readouterr().err


def test_figures_of_other_tasks_are_kept(run, tmp_path):
    words = ["evaluate", f"run='{run}'", "workers=0", f"out={tmp_path}"]
    assert main([*words, "tasks=[linear]"]) == 0
    assert main([*words, "tasks=[clustering]", "seeds=2"]) == 0
    figures = json.loads((tmp_path / "evaluate.json").read_text())
    assert {"linear", "clustering"} <= figures.keys()
    assert "heads ± sd" in (tmp_path / "evaluate.tex").read_text().replace(r"$\pm$", "±")
    assert main([*words, "tasks=[clustering]", "seeds=2", "k=3"]) == 0  # other settings: other figures
    assert "linear" not in json.loads((tmp_path / "evaluate.json").read_text())


def test_figures_of_one_split_are_not_kept_beside_those_of_another(run, tmp_path, capsys):
    words = ["evaluate", f"run='{run}'", "workers=0", "device=cpu", f"out={tmp_path}"]
    assert main([*words, "tasks=[knn]"]) == 0
    assert "accuracy of the class on the test split" in capsys.readouterr().out
    assert main([*words, "tasks=[linear]", "data.test_split=train"]) == 0
    assert "accuracy of the class on the train split" in capsys.readouterr().out
    figures = json.loads((tmp_path / "evaluate.json").read_text())
    assert figures["splits"] == {"train": "train", "test": "train"}
    assert "linear" in figures
    assert "knn" not in figures


def test_options_of_the_data_count_without_its_root(run, indexed, capsys):
    words = ["evaluate", f"run='{run}'", "workers=0", "tasks=[linear]"]
    assert main([*words, "data.test_split=val"]) == 2
    assert "no split val" in capsys.readouterr().err
    assert main([*words, indexed[1]]) == 0  # an index says where its videos are
    assert main([*words, "data.index=nowhere"]) == 2
    assert "no index in nowhere" in capsys.readouterr().err


def test_parts_compute_what_the_command_then_uses(run, tmp_path, monkeypatch):
    """Three jobs, the first of which is stopped and repeated; the command itself decodes and encodes nothing."""
    tasks = "tasks=[clustering,retrieval,few_shot,knn]"
    words = [f"run='{run}'", "workers=0", "clips=2", "seeds=2", "shots=[1]", "device=cpu", tasks]
    monkeypatch.setattr(feature_shards, "SHARD", 16)
    assert main(["evaluate", *words, f"out={tmp_path}/whole"]) == 0
    config = compose_config("evaluate", EvaluateConfig, [*words, f"out={tmp_path}/parts"])
    real, calls = ClipDataset.__getitem__, []

    def stopped(self, request):
        calls.append(request)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return real(self, request)

    monkeypatch.setattr(ClipDataset, "__getitem__", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluate_parts.run_part(config, Part(0, 3))
    files = 0
    for number in range(3):
        evaluate_parts.run_part(config, Part(number, 3))
        assert len([*tmp_path.glob("parts/features/*/0*.npz")]) > files
        files = len([*tmp_path.glob("parts/features/*/0*.npz")])
    assert files == 9  # of features, features for retrieval, and labels
    assert len(calls) == 3 * 48 + 4  # the first file of 16 was not computed again

    def no_more(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(ClipDataset, "__getitem__", no_more)
    assert main(["evaluate", *words, f"out={tmp_path}/parts"]) == 0
    for name in ("evaluate.json", "evaluate.tex", "few_shot_draws.csv"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_cannot_be_done_in_parts_is_refused(run):
    config = compose_config("evaluate", EvaluateConfig, [f"run='{run}'", "tasks=finetune", "device=cpu"])
    with pytest.raises(UserError, match="tasks=finetune cannot be done in parts: start one job, or one per fold"):
        evaluate_parts.run_part(config, Part(0, 2))
