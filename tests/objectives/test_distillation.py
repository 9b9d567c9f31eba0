"""The objective distillation: its loss by hand, two processes, its state, and options that are refused."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from avssl.cli import main
from avssl.clips.transform import DeviceTransform
from avssl.config import TrainConfig
from avssl.config.compose import compose_config
from avssl.config.teacher import TeacherConfig
from avssl.core.errors import UserError
from avssl.objectives.build import build_model, make_composition
from avssl.objectives.distillation import Distillation
from avssl.objectives.objective import Context, EncodedBatch, ExtraViews
from avssl.objectives.teacher import Teacher, momentum
from avssl.selflabel.targets import balanced, centred
from avssl.train.check_distillation import distillation_warnings
from avssl.train.check_options import check
from avssl.train.sync_norm import synchronise
from tests.processes import run_together

VIDEOS, BATCH, SMALL_VIEWS = 24, 8, 3
CPU = torch.device("cpu")
TARGETS = {
    "swav": ["objective=swav"],
    "swav queue": ["objective=swav", "distillation.queue=12"],
    "softmax": ["objective=swav", "distillation.target=softmax"],
    "dino": ["objective=dino"],
    "dino sinkhorn": ["objective=dino", "distillation.target=sinkhorn"],
    "centring alone": ["objective=dino", "distillation.teacher=false"],
    "three axes": ["objective=swav", "contrast.axes.time_shift=invariant"],
    "beside contrast": ["objective=swav", "distillation.queue=9", "loss.contrast=1", "contrast.axes.reversal=distinct"],
}


def configured(*words: str) -> TrainConfig:
    always = ["model=tiny", "clip=tiny", "data.root=x", "distillation.prototypes=5", "distillation.width=6"]
    return compose_config("train", TrainConfig, [*always, "model.hidden=7", *words])


def made(words: list[str]) -> Distillation:
    """The objective with a teacher that has moved away from its model."""
    config = configured(*words)
    torch.manual_seed(0)
    model = build_model(config)
    teacher = None
    if dist.is_initialized():
        synchronise(model, CPU)
    if config.has_teacher:
        teacher = Teacher(model, config.teacher, 100)
        for parameter in teacher.model.heads.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(parameter))))
    transform = DeviceTransform(config.clip, CPU)
    context = Context(config, model, CPU, transform, VIDEOS, 100, BATCH, teacher=teacher)
    return Distillation(context, make_composition(config))


def batch_of(objective: Distillation, step: int, rows: slice = slice(None), small: int = SMALL_VIEWS) -> EncodedBatch:
    """Random features of some rows of the batch of a step."""
    generator = torch.Generator().manual_seed(step)
    clips = 1 if objective.composition is None else len(objective.composition.plain)

    def features(count: int) -> dict[str, torch.Tensor]:
        found = {}
        for name, width in objective.model.widths.items():
            x = torch.randn(BATCH, count, width, generator=generator)
            found[name] = x[rows].flatten(0, 1).requires_grad_()
        return found

    main, teacher, extra = features(clips), features(clips), {}
    if small:
        extra["small"] = ExtraViews({}, features(small))
    index = torch.arange(BATCH)[rows]
    teacher = teacher if objective.options.teacher else {}
    return EncodedBatch({}, main, index, step=step, extra=extra, teacher=teacher)


@pytest.mark.parametrize("target", ["swav", "softmax", "dino", "dino sinkhorn", "centring alone"])
def test_the_loss_is_that_of_a_loop_over_pairs_of_views(target):
    objective = made(TARGETS[target])
    batch = batch_of(objective, 50)
    options, names = objective.options, ("video", "audio")
    objective.centre.uniform_(-0.1, 0.1)
    centre = objective.centre.clone()
    loss, figures = objective.loss(batch, detailed=True)
    assert {"target_entropy", "prototypes_used", "agreement"} <= figures.keys()
    joined = {
        name: torch.cat(
            [batch.features[name].view(BATCH, 2, -1), batch.extra["small"].features[name].view(BATCH, 3, -1)], 1
        )
        for name in names
    }
    heads = objective.model.heads["distillation"]
    z = {name: heads[name].embed(joined[name].flatten(0, 1)).view(BATCH, 5, -1) for name in names}
    source, given = objective.model, {name: z[name][:, :2].detach() for name in names}
    if options.teacher:
        source = objective.context.teacher.model
        given = {
            name: source.heads["distillation"][name].embed(x).view(BATCH, 2, -1) for name, x in batch.teacher.items()
        }
    slow = F.normalize(source.heads["distillation"]["video"].prototypes, dim=1).detach()
    fast = F.normalize(heads["video"].prototypes, dim=1)
    first, last = options.first_target_temperature, options.target_temperature
    assert first is None or objective.context.steps * options.warmup < 50
    losses = []
    for name in names:
        for clip in range(2):
            scores = given[name][:, clip].detach() @ slow.T
            code = (
                centred(scores, centre, last)
                if options.target == "centring"
                else balanced(scores, last, 1 if options.target == "softmax" else 3)
            )
            for other in names:
                for view in range(5):
                    if (other, view) != (name, clip):
                        log_p = (z[other][:, view] @ fast.T / 0.1).log_softmax(1)
                        losses.append(-(code * log_p).sum(1).mean())
    assert len(losses) == 4 * 9
    torch.testing.assert_close(loss, torch.stack(losses).mean())
    if options.target == "centring":
        scores = torch.cat([given[name].flatten(0, 1) for name in names]) @ slow.T
        expected = torch.lerp(scores.mean(0), centre, options.centre_momentum)
        torch.testing.assert_close(objective.centre, expected)


def test_prototypes_are_shared_and_frozen_for_an_epoch():
    objective = made(TARGETS["swav"])
    heads = objective.model.heads["distillation"]
    assert heads["video"].prototypes is heads["audio"].prototypes
    for step, moves in ((0, False), (2, False), (3, True)):  # an epoch is three steps
        objective.model.zero_grad()
        objective.loss(batch_of(objective, step), False)[0].backward()
        assert bool(heads["video"].prototypes.grad.any()) == moves
        assert bool(heads["video"].projection[0].weight.grad.any())


def test_the_teachers_momentum_is_that_of_dino():
    with np.load(Path(__file__).parents[1] / "golden" / "dino.npz") as arrays:
        base, final, epochs, iterations, *_ = arrays["sched_momentum_args"]
        expected = arrays["sched_momentum"]
    options, steps = TeacherConfig(float(base), float(final)), int(epochs * iterations)
    assert [momentum(options, step, steps) for step in range(steps)] == pytest.approx(expected.tolist(), rel=1e-9)


def test_the_teacher_and_its_features_have_no_gradient():
    objective = made(TARGETS["dino"])
    batch = batch_of(objective, 40)
    objective.loss(batch, False)[0].backward()
    assert all(x.grad is None for x in batch.teacher.values())
    assert all(x.grad is None for x in objective.context.teacher.model.parameters())
    assert all(x.grad is not None for x in batch.features.values())


def test_clips_that_contrast_pushes_apart_are_left_out():
    objective = made(TARGETS["beside contrast"])
    batch = batch_of(objective, 0, small=0)
    assert len(batch.features["video"]) == 4 * BATCH  # two draws, forwards and backwards
    objective.loss(batch, False)[0].backward()
    used = batch.features["video"].grad.view(BATCH, 2, 2, -1).any(-1)
    order = [axis.name for axis in objective.composition.views]
    reversed_ones = used.select(1 + order.index("reversal"), 1)
    assert used.any()
    assert not reversed_ones.any()


def test_heads_give_clusters():
    """In evaluation a head gives the same logits as `MultiStream.cluster_by`, from each modality."""
    objective = made(TARGETS["dino"])
    model = objective.model.eval()
    assert (model.cluster_head_count, model.clusters, model.sharing) == (1, 5, "per_modality")
    features = {name: torch.randn(4, width) for name, width in model.widths.items()}
    all_heads, one = model.cluster(features), model.cluster_by(0, features)
    for name in features:
        assert all_heads[name].shape == (1, 4, 5)
        torch.testing.assert_close(all_heads[name][0], one[name])
        assert bool((one[name].abs() <= 10 + 1e-4).all())  # cosines divided by 0.1


def run(objective: Distillation, steps: range, rows: slice = slice(None)) -> list[torch.Tensor]:
    """The losses of some steps, and the gradients of the last one."""
    found = []
    for step in steps:
        objective.model.zero_grad()
        loss, _ = objective.loss(batch_of(objective, step, rows), False)
        found.append(loss.detach())
    loss.backward()
    return [*found, *(p.grad for p in objective.model.heads["distillation"].parameters())]


@pytest.mark.parametrize("target", ["swav queue", "dino", "three axes"])
def test_the_state_continues_bit_for_bit(target, tmp_path):
    whole, before, after = made(TARGETS[target]), made(TARGETS[target]), made(TARGETS[target])
    run(before, range(4))
    torch.save(before.shared_state(), tmp_path / "state.pt")
    after.load_shared_state(torch.load(tmp_path / "state.pt"))
    for name, buffer in after.model.named_buffers():
        buffer.copy_(before.model.get_buffer(name))
    expected = run(whole, range(6))[4:]
    assert all(map(torch.equal, run(after, range(4, 6)), expected))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("centre", torch.zeros(4)),
        ("centre", torch.full((5,), torch.nan)),
        ("centre", torch.full((5,), 1e30)),
        ("queue", torch.zeros(1)),
        ("queued", 99),
    ],
)
def test_a_damaged_state_is_refused(name, value):
    objective = made(TARGETS["swav queue"])
    state = objective.shared_state()
    state["distillation"][name] = value
    with pytest.raises(ValueError, match="distillation"):
        objective.load_shared_state(state)


TOGETHER = ["swav queue", "softmax", "dino", "beside contrast"]


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    calls: list[str] = []
    for name in ("all_reduce", "all_gather"):
        original = getattr(dist, name)
        setattr(
            dist,
            name,
            lambda *args, _call=original, _name=name, **options: (calls.append(_name), _call(*args, **options))[1],
        )
    found = {}
    for target in TOGETHER:
        objective = made(TARGETS[target])
        results = run(objective, range(5), slice(rank * BATCH // 2, (rank + 1) * BATCH // 2))
        for x in results:
            dist.all_reduce(x)
        found[target] = [x / 2 for x in results], objective.shared_state()["distillation"]
        for head in objective.model.heads.modules():  # synchronised norms exchange by themselves
            if isinstance(head, torch.nn.modules.batchnorm._BatchNorm):
                head.eval()
        if objective.context.teacher is not None:
            objective.context.teacher.model.eval()
        calls.clear()
        objective.loss(batch_of(objective, 5, slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)), False)
        found[target] += ([*calls],)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    os._exit(0)


def test_two_processes_are_one(tmp_path):
    """Losses, gradients and state of both processes are those of one; little is exchanged."""
    run_together(_process, (str(tmp_path),), 2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for target in TOGETHER:
        objective = made(TARGETS[target])
        expected = run(objective, range(5))
        for found in (first, second):
            for ours, theirs in zip(found[target][0], expected, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
            for name, value in objective.shared_state()["distillation"].items():
                torch.testing.assert_close(found[target][1][name], value, rtol=1e-4, atol=1e-5)
    exchanged = {target: sorted(first[target][2]) for target in TOGETHER}
    assert exchanged == {
        "swav queue": ["all_gather", *["all_reduce"] * 4],  # the queue's new rows; a maximum and three sums
        "softmax": ["all_reduce"] * 2,
        "dino": ["all_reduce"],
        "beside contrast": ["all_gather", *["all_reduce"] * 4],
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["distillation.queue=10"], "distillation.* has no effect"),
        (["objective=dino", "distillation.queue=10"], "distillation.queue=10 has no effect"),
        (["objective=swav", "contrast.axes.reversal=distinct"], "contrast.axes.reversal=distinct pushes clips apart"),
        (["objective=swav", "contrast.modalities=[video]", "contrast.axes.augmentation=off"], "is a single view"),
        (["objective=swav", "distillation.warmup=0.5"], "distillation.warmup=0.5 has no effect"),
        (["objective=swav", "distillation.prototypes=1"], "distillation.prototypes"),
        (["objective=swav", "distillation.queue=1000000", "distillation.prototypes=1000000"], "queue"),
    ],
)
def test_options_that_cannot_work_are_refused(words, message):
    with pytest.raises(UserError, match=message.replace(".", r"\.").replace("*", r"\*")):
        check(compose_config("train", TrainConfig, ["model=tiny", "clip=tiny", "data.root=x", *words]))


def test_a_collapse_that_is_certain_is_announced():
    warned = distillation_warnings(configured("objective=dino", "distillation.teacher=false"), 64)
    assert ["collapses" in line for line in warned] == [True]
    (few,) = distillation_warnings(
        configured("objective=swav", "distillation.queue=8", "distillation.prototypes=40"), 16
    )
    assert "distillation.queue=24" in few
    assert not distillation_warnings(configured("objective=dino"), 4)


def test_a_run_trains_and_gives_clusters(indexed: list[str], tmp_path: Path) -> None:
    words = [
        *indexed,
        "experiment=tiny",
        "objective=dino",
        "distillation.prototypes=4",
        "optim.batch=8",
        "optim.clips=16",
    ]
    assert main(["train", *words, "workers=0", "device=cpu", f"out={tmp_path}"]) == 0
    assert main(["clusters", f"run={tmp_path}", "workers=0", "previews=0"]) == 0
    assert (tmp_path / "clusters" / "assignments.parquet").is_file()
