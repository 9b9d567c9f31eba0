"""Composed contrast in the one training loop: what a user trains, resumes and evaluates."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from avssl.cli import main
from avssl.clips.dataset import ClipDataset, collate
from avssl.clips.loader import train_requests
from avssl.clips.transform import DeviceTransform
from avssl.config import TrainConfig
from avssl.config.compose import compose_config
from avssl.config.loss import LossConfig
from avssl.contrast.composition import Composition
from avssl.models.build import build_model
from avssl.models.heads import MLPHeads
from avssl.objectives.objective import Context
from avssl.runs.checkpoints import load_run_state
from avssl.train.schedule import learning_rate
from avssl.train.weighted_loss import WeightedLoss
from avssl.videos.index import read_index
from tests.conftest import made_once, write_video

SMALL = ["experiment=gdt_sample", "optim.batch=8", "workers=0", "device=cpu", "log_steps=1", "save_seconds=0"]
LABELS = ["labelling.clusters=3", "labelling.heads=2", "labelling.passes=3", "labelling.warmup_batches=2"]
OWN = """
from dataclasses import dataclass
from avssl.contrast.axes import Axis

@dataclass(frozen=True)
class Echo(Axis):
    name: str = "echo"
    changes: frozenset = frozenset({"audio"})

    def apply(self, frames, sound, level, values):
        return frames, sound if level == 0 else sound + 0.5 * sound.roll(3, -1)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> list[str]:
    """Twelve videos of 2.2 s in each of three classes: for training, and four more for testing."""
    return made_once(tmp_path_factory, "both_ways", "direction=true", "min_seconds=2.2", "max_seconds=2.4")


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def config_of(*words: str) -> TrainConfig:
    return compose_config("train", TrainConfig, list(words))


@pytest.mark.parametrize(
    "composition",
    [
        ["contrast=preset_7"],
        ["contrast=preset_8", "contrast.denominator=without_positives", "contrast.stop_gradient=keys"],
        ["contrast=preset_2", "contrast.block=8"],
        ["contrast=simclr"],
        ["contrast.axes.speed=distinct", "contrast.axes.crop=invariant", "contrast.compare=all"],
        ["contrast=simclr", "contrast.modalities=[audio]"],
    ],
)  # fmt: skip
def test_compositions_train_and_are_evaluated(data, composition, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("AVSSL_VERBOSITY", "verbose")
    out = tmp_path / "run"
    assert main(["train", *data, *SMALL, *composition, "optim.epochs=1", f"out={out}"]) == 0
    said = capsys.readouterr().out
    assert "clips decoded and" in said
    assert "per step: " in said
    assert f"avssl evaluate {out}" in said
    trained = lines(out)
    assert len(trained) == 5  # 36 videos, batches of 8
    wanted = {"loss", "positive", "negative", "alignment", "uniformity", "retrieval", "lr", "wait_share"}
    assert wanted <= trained[0].keys()
    tasks = "tasks=[linear,knn,cross_modal]"
    assert main(["evaluate", f"run={out}", tasks, "columns=[class,direction]", "workers=0"]) == 0
    figures = json.loads((out / "evaluate" / "evaluate.json").read_text())
    modalities = {"video", "audio", "both"}
    for name in ("video", "audio"):
        if f"modalities=[{name}]" in composition[-1] or (composition[-1] == "contrast=simclr" and name == "video"):
            modalities = {name}
    for probe in ("linear", "knn"):
        assert figures[probe].keys() == modalities | {f"{name} embedding" for name in modalities - {"both"}}
        assert all(0 <= x <= 1 for by_column in figures[probe].values() for x in by_column.values())
    assert (figures["cross_modal"] is None) == (len(modalities) == 1)
    model = load_run_state(out)["model"]
    assert any(key.startswith("encoders.video.") for key in model) == ("video" in modalities)
    assert not any(key.startswith("heads.labelling.") for key in model)


def test_clusters_of_a_run_without_clusters_are_one_clear_line(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", *data, *SMALL, "optim.epochs=1", f"out={out}"]) == 0
    assert main(["clusters", f"run={out}"]) == 2
    error = capsys.readouterr().err.strip()
    assert "avssl evaluate" in error
    assert error.count("\n") == 0


RELEASED = ["contrast.released=[loss,shifts,reversal]"]


@pytest.mark.parametrize(("task", "form"), [("gdt", RELEASED), ("both", ["crops.small=1"])])
def test_a_stopped_run_goes_on_bit_for_bit(data, task, form, tmp_path, monkeypatch):
    words = ["train", *data, *SMALL, "contrast=preset_8", f"task={task}", "optim.epochs=2", *form]
    words += LABELS if task == "both" else []
    assert main([*words, f"out={tmp_path / 'whole'}"]) == 0
    original, calls = WeightedLoss.forward, []

    def interrupted(self, batch, detailed):
        calls.append(batch)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(self, batch, detailed)

    monkeypatch.setattr(WeightedLoss, "forward", interrupted)
    assert main([*words, f"out={tmp_path / 'part'}"]) == 130
    monkeypatch.undo()
    assert load_run_state(tmp_path / "part")["step"] == 4
    assert main([*words, f"out={tmp_path / 'part'}"]) == 0
    ours, theirs = (load_run_state(tmp_path / name) for name in ("part", "whole"))
    assert all((ours["model"][key] == theirs["model"][key]).all() for key in theirs["model"])
    assert ("labeller" in ours) == (task == "both")
    if task == "both":
        assert (ours["labeller"]["labels"] == theirs["labeller"]["labels"]).all()
        assert main(["clusters", f"run={tmp_path / 'part'}", "workers=0", "previews=0"]) == 0
        assert {line["kind"] for line in lines(tmp_path / "part")} == {"train", "labelling"}


@pytest.mark.parametrize("form", [[], RELEASED], ids=["composed", "released"])
def test_both_is_the_weighted_sum_over_one_pair_of_encoders(data, form):
    """The parts, each computed as an objective alone, on the same model and batch."""
    weights = ["loss.labelling=0.25", "loss.contrast=3"]
    config = config_of(*data, *SMALL, *LABELS, *weights, "task=both", "contrast=preset_8", *form)
    torch.manual_seed(0)
    model, device = build_model(config), torch.device("cpu")
    composition = Composition.from_config(config.contrast)
    rows = read_index(config.data.index, "train")
    videos = ClipDataset(rows, config.data.root, config.clip, 0, composition)
    batch = collate([videos[request] for request in train_requests(36, 8, 0, 0)])

    def loss_of(task, composition):
        loss_config = config.loss if task == "both" else LossConfig()
        alone, transform = replace(config, task=task, loss=loss_config), DeviceTransform(config.clip, device)
        loss = WeightedLoss(Context(alone, model, device, transform, 36, 10, 8), composition)
        for _, objective in loss.objectives:
            if objective.name == "labelling":
                objective.labeller.labels.copy_(labels)
        return loss

    labels = torch.randint(0, 3, (36, config.labelling.heads), dtype=torch.int32)
    model.eval()
    loss, logged = loss_of("both", composition)(batch, detailed=False)
    contrast, _ = loss_of("gdt", composition)(batch, detailed=False)
    # labels are asked of both shifts, as they run forwards
    forwards = slice(None, None, composition.copies)  # of the clips that were decoded, and of copies in reverse
    draws = batch.draws[forwards]
    plain = batch.with_clips(**{name: x[forwards] for name, x in batch.clips.items()})
    plain = replace(plain, draws=draws, index=batch.index.repeat_interleave(2))
    labelling, _ = loss_of("selavi", None)(plain, detailed=False)
    assert loss.item() == pytest.approx(0.25 * labelling.item() + 3 * contrast.item(), rel=1e-5)
    assert logged["contrast_loss"].item() == pytest.approx(contrast.item(), rel=1e-6)
    loss.backward()
    for part in (*model.encoders.values(), model.cluster_heads["shared"], *model.projections.values()):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


def test_an_axis_of_ones_own_in_the_working_folder(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_echo_axis.py").write_text(OWN)
    words = [*data, *SMALL, "contrast.custom_axes=[my_echo_axis:Echo:invariant]", "optim.epochs=1", "out=run"]
    assert main(["train", *words, "workers=1"]) == 0
    assert len(lines(tmp_path / "run")) == 5


def test_a_batch_whose_videos_fail_goes_on(data, tmp_path):
    """A video that breaks after indexing is replaced by another: two samples of the batch may be one video."""
    root = tmp_path / "videos"
    for i in range(6):
        write_video(root / f"{i}.mp4", seconds=2.5)
    words = [f"data.root={root}", f"data.index={tmp_path / 'index'}"]
    assert main(["index", *words, "workers=1"]) == 0
    for i in range(3):
        (root / f"{i}.mp4").write_bytes(b"broken")
    words += ["contrast=preset_4", "optim.batch=6", "optim.epochs=2", f"out={tmp_path / 'run'}"]
    assert main(["train", *SMALL, *words]) == 0
    assert len(json.loads((tmp_path / "run" / "failures.json").read_text())) == 3
    assert all(line["loss"] == line["loss"] for line in lines(tmp_path / "run"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["contrast.axes.time_shfit=distinct"], "did you mean contrast.axes.time_shift?"),
        (["contrast.axes.reversal=distnct"], "did you mean distinct?"),
        (["contrast=preset_10"], "did you mean preset_1?"),
        (["contrast.compare=within_modal"], "contrast.compare=within_modal leaves a clip without a positive"),
        (["contrast.axes.crop=distinct"], "contrast.axes.crop=distinct does not change audio"),
        (["contrast.custom_axes=[nowhere:Axis:distinct]"], "no axis at nowhere:Axis"),
        (["contrast.modalities=[video,text]"], "contrast.modalities"),
        (["optim.batch=1"], "optim.batch=1"),
        (["task=selavi", "contrast=preset_3"], "contrast.* has no effect with task=selavi"),
        (["clip.spectrogram=logfbank", "clip.window_ms=2000"], "clip.window_ms=2000"),
        (["clip.audio_rate=400", "clip.hop_ms=1"], "clip.hop_ms=1 is shorter than one sample"),
        (["contrast=preset_4", "clip.frames=5"], "data.min_seconds=2.5, or set contrast.axes.time_shift=invariant"),
        (["task=both", "contrast=simclr"], "contrast.modalities=[video,audio]"),
        (
            ["contrast=simclr", "contrast.released=[loss]"],
            "contrast.released=[loss] is for contrast=preset_1 to preset_9",
        ),
        (["contrast.released=[los]"], "did you mean loss?"),
        (["contrast.released=[shifts]", "contrast.min_gap=1"], "contrast.min_gap=1"),
        (["clip.short_side_eval=20"], "clip.short_side_eval=20 is smaller than clip.crop=36"),
    ],
)
def test_wrong_contrast_is_one_clear_line(data, words, said, tmp_path, capsys):
    assert main(["train", *data, *SMALL, f"out={tmp_path / 'run'}", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.count("\n") == 0
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_evaluated_is_one_clear_line(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", *data, *SMALL, "optim.epochs=1", f"out={out}"]) == 0
    selavi = tmp_path / "selavi"
    words = ["experiment=selavi_sample", "optim.batch=8", "workers=0", "device=cpu", "optim.epochs=1"]
    assert main(["train", *data, *LABELS, *words, f"out={selavi}"]) == 0
    (tmp_path / "other.csv").write_text("path,digit\nelsewhere.mp4,3\n")
    state = load_run_state(out)
    capsys.readouterr()
    for asked, said in (
        ([f"run={out}", "columns=[]"], "columns=[] is empty"),
        ([f"run={out}", "tasks=[knn]", "columns=[digit]", f"labels={tmp_path / 'other.csv'}"], "fewer than two labels"),
        (
            [f"run={out}", "tasks=[cross_modal]", "columns=[digit]", f"labels={tmp_path / 'other.csv'}"],
            "fewer than two",
        ),
        ([f"run={selavi}", "tasks=[cross_modal]"], "no embedding of both modalities"),
    ):
        assert main(["evaluate", *asked, "workers=0"]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert said in error
    assert main(["evaluate", f"run={selavi}", "tasks=[knn,cross_modal]", "workers=0"]) == 0
    del state["model"]["heads.contrast.video.out.weight"]
    torch.save(state, out / "other.ckpt")
    assert main(["evaluate", f"checkpoint={out / 'other.ckpt'}", "workers=0"]) == 2
    assert "train the run" in capsys.readouterr().err


def test_the_block_may_change_when_a_run_goes_on(data, tmp_path):
    out = tmp_path / "run"
    words = ["train", *data, *SMALL, "optim.epochs=1", f"out={out}"]
    assert main(words) == 0
    assert main([*words, "contrast.block=8"]) == 0


def test_every_experiment_composes():
    for experiment in ("gdt_sample", "gdt_kinetics", "both_sample"):
        for number in range(1, 10):
            config = config_of(f"experiment={experiment}", f"contrast=preset_{number}", "data.root=x")
            assert Composition.from_config(config.contrast).plan(1).encoded_per_video in (2, 4, 8)
    for name, clusters in (("vggsound", 309), ("kinetics400", 400), ("kinetics_sound", 32), ("ave", 28)):
        config = config_of(f"experiment=selavi_{name}", "data.root=x")
        assert (config.labelling.clusters, config.labelling.heads, config.labelling.groups) == (clusters, 10, 2)
        assert (config.data.name, config.optim.batch, config.optim.epochs) == (name, 16, 200)
        assert (config.labelling.sharing, config.labelling.marginal) == ("per_modality", "gaussian")
        assert config.labelling.passes == 160
        assert config.labelling.released == ["shuffle_groups", "normalise_logits", "no_last_pass"]
        assert (config.clip.color_jitter, config.clip.short_side_eval, config.clip.retrieval_frames) == (0.4, 112, 32)
    for number in range(1, 10):
        config = config_of("experiment=gdt_kinetics", f"contrast=preset_{number}", "data.root=x")
        composition = Composition.from_config(config.contrast)
        assert composition.form == "released"
        assert composition.copies == (2 if composition.role("reversal") else 1)
        assert composition.required_seconds(1.0) == 1.0  # shifts may overlap
        rates = {learning_rate(config.optim, step, 10, 2010) for step in range(100, 2010)}
        assert rates == {config.optim.lr}  # it never drops
    assert (config.optim.batch, config.clip.spectrogram, config.clip.mels, config.contrast.projection) == (
        8, "logfbank", 40, 256,
    )  # fmt: skip
    model = build_model(replace(config, model=replace(config.model, video="tiny")))
    assert isinstance(model.projections["audio"], MLPHeads)
    assert model.projections["audio"].out.weight.shape == (1, 256, 512)
    assert not model.cluster_heads
