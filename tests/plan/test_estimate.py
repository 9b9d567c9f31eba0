"""The plan's arithmetic: cases reckoned by hand, and what must never fall or rise."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avssl.config import OptimConfig
from avssl.plan.estimate import Costs, Solver, Target, Work, bottleneck, changes, estimate

ALONE = Target(nodes=1, processes=1, gpus=True, cores=8, workers=4, threads=1)
WORK = Work(videos=1000, epochs=10, batch=10)
COSTS = Costs(batch=0.1, update=0.02, forward=0.004, decode=0.01, decode_wall=0.01)
LABELS = replace(WORK, solves=5, groups=2, heads=4, clusters=20, features=1024)
SOLVER = replace(COSTS, label_decode=0.008, label_wall=0.008, evidence=1e-6, solver=Solver(1e-8, 1e-9, 1e-7, 9.0))


def test_a_training_without_labels_is_its_steps():
    found = estimate(ALONE, WORK, COSTS)
    assert found.steps == 1000
    assert found.step.seconds == pytest.approx(0.12)  # four workers decode 10 videos in 25 ms
    assert found.step.bound == "device"
    assert found.seconds == pytest.approx(120)
    assert found.passes == found.label_bytes == found.evidence_bytes == found.features_bytes == 0
    assert found.videos_wanted == pytest.approx(10 / 0.12)
    assert found.cores_wanted == pytest.approx(1 + 0.1 / 0.12)
    assert found.workers_wanted == 1


def test_a_labelling_pass_waits_for_its_first_batch():
    found, before = (estimate(ALONE, replace(LABELS, label_batch=size), SOLVER) for size in (64, 0))
    assert found.label_start == pytest.approx(64 * 0.008)
    assert found.labelling - before.labelling == pytest.approx(10 * 64 * 0.008)  # 5 solutions of 2 groups
    assert estimate(replace(ALONE, workers=0), replace(LABELS, label_batch=64), SOLVER).label_start == 0.0
    few = replace(LABELS, label_batch=64, videos=20)
    assert estimate(ALONE, few, SOLVER).label_start == pytest.approx(20 * 0.008)


@settings(max_examples=200)
@given(st.integers(1, 10_000_000), st.integers(2, 100_000), st.integers(2, 512))
def test_a_run_counted_in_clips_has_the_steps_that_training_takes(clips, videos, batch):
    optim = OptimConfig(clips=clips, batch=batch)
    work = Work(videos, optim.epochs_of(videos), batch)
    assert estimate(ALONE, work, COSTS).steps == optim.steps_of(videos, batch)


def test_slow_decoding_sets_the_pace_and_more_workers_help():
    slow, two = replace(COSTS, decode=0.05, decode_wall=0.06), replace(ALONE, workers=2)
    found = estimate(two, WORK, slow)
    assert found.step.bound == "decoding"
    assert found.step.seconds == pytest.approx(10 * 0.06 / 2)
    assert found.workers_wanted == 5
    assert bottleneck(found) == "training: too few decoding processes"
    best = changes(two, WORK, slow)[0]
    assert best.text == "workers=5"
    assert best.seconds == pytest.approx(120)


def test_a_machine_without_the_cores_for_more_workers_is_asked_for_them_on_a_cluster_alone():
    slow, small = replace(COSTS, decode=0.05, decode_wall=0.06), replace(ALONE, workers=2, cores=3)
    assert "launch.cpus=6" in changes(small, WORK, slow, core_limit=False)[0].text
    assert not [c for c in changes(small, WORK, slow) if "launch.cpus" in c.text or "workers" in c.text]


def test_threads_and_workers_share_the_cores():
    laptop = Target(nodes=1, processes=1, gpus=False, cores=2, workers=2, threads=1)
    costs = replace(COSTS, batch=0.1, update=0.0, decode=0.015, decode_wall=0.015)
    found = estimate(laptop, WORK, costs)
    assert found.step.bound == "cores"
    assert found.step.seconds == pytest.approx((0.1 + 0.15) / 2)
    assert bottleneck(found) == "training: too few cores"


def test_without_workers_decoding_and_computing_take_turns():
    found = estimate(replace(ALONE, workers=0), WORK, COSTS)
    assert found.step.seconds == pytest.approx(0.12 + 0.1)


def test_passes_and_solver_of_a_labelled_training():
    found = estimate(ALONE, LABELS, SOLVER)
    assert found.passes == 10
    assert found.label.seconds == pytest.approx(1000 * 0.004)
    assert found.labelling == pytest.approx(10 * 4.0)
    each = 10 * 1000 * (1e-8 * 20 + 1e-9 * 400) + 9 * 1e-7 * 8000 + 1000 * 1e-6  # evidence once, for memory=full
    assert found.solve == pytest.approx(4 * each)
    assert found.solving == pytest.approx(5 * 4 * each)
    assert found.seconds == pytest.approx(120 + 40 + 20 * each)
    assert found.evidence_bytes == 1000 * 20 * 4
    assert found.label_bytes == 1000 * 4 * 4
    assert found.features_bytes == 3 * 1000 * 1024 * 4  # two groups, one of them twice while it is joined


def test_streaming_makes_the_evidence_in_every_pass_and_keeps_none():
    full, stream = estimate(ALONE, LABELS, SOLVER), estimate(ALONE, replace(LABELS, stream=True), SOLVER)
    assert stream.evidence_bytes == 0
    assert stream.solve - full.solve == pytest.approx(4 * 10 * 1000 * 1e-6)


def test_a_bank_takes_one_pass_and_is_in_the_checkpoint():
    found = estimate(ALONE, replace(LABELS, mode="bank"), replace(SOLVER, state=5000))
    assert found.passes == 1
    assert found.bank_bytes == 1000 * (4 * 1024 + 1)
    assert found.checkpoint_bytes == 5000 + 1000 * 4 * 4 + found.bank_bytes


def test_labels_found_batch_by_batch_are_solved_in_every_step():
    found = estimate(ALONE, replace(LABELS, mode="batch", solves=1, queue=90, heads=1), SOLVER)
    assert found.passes == 1
    solver = SOLVER.solver
    of_batch = solver.seconds(100, 20) + 100 * 1e-6
    assert found.solve == pytest.approx(of_batch)
    assert found.solving == pytest.approx(1000 * of_batch + solver.seconds(1000, 20) + 1000 * 1e-6)


def test_eight_machines_share_the_videos_and_exchange_gradients():
    eight = replace(ALONE, nodes=8, processes=8, cores=64, network=1e9, scaling=0.8)
    found = estimate(eight, LABELS, replace(SOLVER, gradients=4_000_000))
    assert found.steps == 16  # 10,000 videos in steps of 640
    assert found.step.parts["network"] == pytest.approx(2 * 4e6 * 7 / 8 / 1e9)
    assert found.training == pytest.approx(16 * 0.12 / 0.8)
    assert found.label.seconds == pytest.approx(1000 / 64 * 0.004)
    assert found.evidence_bytes == 16 * 20 * 4
    slow = estimate(replace(eight, network=1e7), LABELS, replace(SOLVER, gradients=4_000_000))
    assert slow.step.bound == "network"
    assert slow.step.seconds == pytest.approx(0.7)


def test_a_slow_disk_sets_the_pace():
    found = estimate(replace(ALONE, storage=1e6), WORK, replace(COSTS, item=50_000))
    assert found.step.bound == "storage"
    assert found.step.seconds == pytest.approx(0.5)
    assert found.read_wanted == pytest.approx(10 * 50_000 / 0.12)


def test_a_faster_device_is_faster_until_decoding_is_not():
    assert estimate(replace(ALONE, speed=2), WORK, COSTS).step.seconds == pytest.approx(0.06)
    fast = estimate(replace(ALONE, speed=100), WORK, COSTS)
    assert fast.step.bound == "decoding"
    assert fast.step.seconds == pytest.approx(0.025)


def test_more_machines_are_named_where_nothing_else_helps():
    assert [c.text for c in changes(ALONE, WORK, COSTS)] == ["twice the machines"]
    assert all("machines" not in c.text for c in changes(ALONE, LABELS, SOLVER))


def test_a_hundred_million_videos_on_512_gpus():
    target = replace(ALONE, nodes=64, processes=8, cores=64, scaling=0.9, network=1.25e10)
    found = estimate(target, replace(LABELS, videos=10**8, heads=10), SOLVER)
    assert found.label_bytes == 10**8 * 10 * 4
    assert found.evidence_bytes == 195_313 * 20 * 4


targets = st.builds(
    Target, nodes=st.integers(1, 64), processes=st.integers(1, 8), gpus=st.booleans(), cores=st.integers(1, 128),
    workers=st.integers(0, 16), threads=st.integers(1, 8), speed=st.floats(0.1, 100), scaling=st.floats(0.1, 1),
    network=st.floats(1e6, 1e11), storage=st.floats(1e6, 1e11),
)  # fmt: skip
works = st.builds(
    Work, videos=st.integers(100, 10**8), epochs=st.integers(1, 200), batch=st.integers(1, 64),
    accumulate=st.integers(1, 4), solves=st.integers(0, 100), mode=st.sampled_from(["offline", "bank", "batch"]),
    groups=st.integers(1, 4), heads=st.integers(4, 10), clusters=st.integers(2, 1000), queue=st.integers(0, 1000),
    stream=st.booleans(), warmup_batches=st.integers(0, 20), features=st.just(1024),
)  # fmt: skip
small = st.floats(1e-6, 1)
solvers = st.builds(Solver, *(st.floats(0, 1e-6) for _ in range(3)), passes=st.floats(1, 30))
costs = st.builds(
    Costs, small, small, small, small, small, small, small, st.floats(0, 1e-3), solvers,
    gradients=st.integers(0, 10**9), state=st.integers(0, 10**9), item=st.floats(0, 1e7),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(targets, works, costs)
def test_dearer_parts_never_make_it_cheaper(target, work, cost):
    now = estimate(target, work, cost).seconds
    for part in (
        "batch",
        "update",
        "forward",
        "decode",
        "decode_wall",
        "label_decode",
        "label_wall",
        "evidence",
        "item",
    ):
        dearer = replace(cost, **{part: 1.5 * getattr(cost, part)})
        assert estimate(target, work, dearer).seconds >= now * (1 - 1e-9)
    for part in ("linear", "square", "cube", "passes"):
        dearer = replace(cost, solver=replace(cost.solver, **{part: 1.5 * getattr(cost.solver, part)}))
        assert estimate(target, work, dearer).seconds >= now * (1 - 1e-9)


@settings(max_examples=200, deadline=None)
@given(targets, works, costs)
def test_more_of_anything_never_makes_it_slower(target, work, cost):
    now = estimate(target, work, cost).seconds
    better = [replace(target, cores=2 * target.cores), replace(target, speed=2 * target.speed)]
    better += [replace(target, network=2 * target.network), replace(target, storage=2 * target.storage)]
    better += [replace(target, scaling=1.0), replace(target, workers=target.workers + 1)] if target.workers else []
    for other in better:
        assert estimate(other, work, cost).seconds <= now * (1 + 1e-9)


@settings(max_examples=200, deadline=None)
@given(targets, works, costs)
def test_more_videos_epochs_heads_and_solves_take_longer_and_more_room(target, work, cost):
    now = estimate(target, work, cost)
    for part in ("videos", "epochs", "heads", "solves"):
        more = estimate(target, replace(work, **{part: 2 * getattr(work, part)}), cost)
        assert more.seconds >= now.seconds * (1 - 1e-9)
        assert more.checkpoint_bytes >= now.checkpoint_bytes
        assert more.evidence_bytes >= now.evidence_bytes


@settings(max_examples=200, deadline=None)
@given(targets, works, costs, st.booleans())
def test_changes_save_a_twentieth_and_come_best_first(target, work, cost, core_limit):
    now = estimate(target, work, cost).seconds
    taken = [change.seconds for change in changes(target, work, cost, core_limit)]
    assert taken == sorted(taken)
    assert all(seconds < 0.95 * now for seconds in taken)
