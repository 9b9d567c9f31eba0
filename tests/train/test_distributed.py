"""Two processes are one: losses, gradients and labels; and what they do when one of them is gone."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from avssl.cli import main
from avssl.clips.loader import load
from avssl.config import TrainConfig
from avssl.config.compose import compose_config
from avssl.core.collectives import broadcast_from_rank0, gather, lookup_sharded, rank_slice, sum_over_processes
from avssl.runs.checkpoints import load_run_state
from avssl.train.distributed import StepConsensus, StepDecision
from avssl.train.run_state import RunState
from avssl.train.sync_norm import SyncNorm, synchronise
from avssl.train.take_features import take_features
from tests.conftest import made_with_features
from tests.processes import Started, run_together, start_together

LABELS = ["labelling.clusters=3", "labelling.heads=4", "labelling.passes=3", "labelling.warmup_batches=2"]
PLAIN = ["model=tiny", "clip=tiny", "model.dropout=0", "workers=0", "threads=1", "device=cpu", "optim.epochs=2"]
CASES = {
    "selavi": ["labelling.groups=2", "labelling.sharing=per_modality", "labelling.marginal=gaussian"],
    "selavi released": [
        "labelling.groups=2", "labelling.sharing=per_modality",
        "labelling.released=[shuffle_groups,normalise_logits,no_last_pass]",
    ],
    "empirical": ["labelling.marginal=empirical", "labelling.sharing=shared", "labelling.memory=stream"],
    "weights": ["labelling.modality_weights=auto", "labelling.groups=2", "labelling.sharing=shared"],
    "bank": ["labelling.mode=bank", "labelling.sharing=shared", "labelling.groups=1"],
    "batch": ["labelling.mode=batch", "labelling.sharing=concat", "labelling.groups=1", "labelling.queue=20"],
    "kmeans": ["labelling=deepcluster"],
    "xdc": ["labelling=xdc"],
    "gdt": ["task=gdt", "contrast=preset_1", "clip.fps=8"],
    # of a hypothesis whose released form does not depend on the number of processes
    "gdt released": [
        "task=gdt", "contrast=preset_2", "contrast.released=[loss]", "optim.accumulate=2", "clip.fps=8",
    ],
    "both": ["task=both", "contrast=preset_3", "labelling.sharing=shared", "clip.fps=8"],
    "parts": [  # contrast alone, both, and labels that move no encoder, in a step each
        "task=both", "contrast=preset_1", "labelling.sharing=shared", "clip.fps=8", "labelling.start=0.15",
        "contrast.end=0.25", "labelling.first=kmeans", "labelling.first_from=embeddings", "labelling.soft=1",
        "labelling.stop_gradient=true",
    ],
    "prototypes": [
        "labelling.first=prototypes", "labelling.groups=2", "labelling.sharing=per_modality", "clip.noise=1",
        "clip.shift=0.1",
    ],
    "accumulated": ["optim.accumulate=3", "labelling.sharing=shared"],
    "features": ["data.features={features}", "labelling.groups=2", "model.adapter=32"],
    "features both": ["data.features={features}", "task=both", "contrast=preset_4", "labelling.sharing=shared"],
    "features prototypes of contrast": [
        "data.features={features}", "task=both", "contrast=preset_4", "labelling.sharing=shared",
        "contrast.prototypes=[3,7]", "contrast.prototype_start=0",
    ],
}  # fmt: skip
STEPS = 3


def words_of(case: str, data: list[str], batch: int) -> list[str]:
    features = data[0].removeprefix("data.root=") + "_features"
    return [*data, *LABELS, *PLAIN, f"optim.batch={batch}", *(w.format(features=features) for w in CASES[case])]


def steps(words: list[str], rate: float = 1e-3) -> tuple[list[torch.Tensor], list[torch.Tensor], dict]:
    """Losses and gradients of a few steps of plain descent, and the rows' state after them."""
    t = RunState(take_features(compose_config("train", TrainConfig, words)), torch.device("cpu"))
    t.begin({}, Path())
    batches = load(t.dataset, t.requests(), 0)
    losses, gradients = [], []
    for step in range(STEPS):
        t.step = step
        while t.labelling(step):
            t.relabel(batches)
        t.model.train()
        t.model.zero_grad()
        total = torch.zeros(())
        for number in range(t.config.optim.accumulate):
            loss, _ = t.forward(next(batches), False, number + 1 == t.config.optim.accumulate)
            t.backward(loss)
            total += loss.detach() / t.config.optim.accumulate
        losses.append(total)
        found = [p.grad for p in t.model.parameters() if p.grad is not None]
        gradients.append(torch.cat([g.flatten() for g in found]).clone())
        with torch.no_grad():
            for p in t.model.parameters():
                if p.grad is not None:
                    p -= rate * p.grad
    return losses, gradients, t.rank_state()["tables"]


class Signals:
    """No signal, until one is set."""

    requeue = False
    received = False

    def __bool__(self) -> bool:
        return self.received


def decisions(rank: int) -> list[StepDecision]:
    """Those at the ends of five steps: a process finds a checkpoint due at the second, and gets a signal in the
    third."""
    signals = Signals()
    consensus = StepConsensus(signals)
    decided = []
    for step in range(5):
        consensus.start(save=step == 1 and rank == 0)
        signals.received = signals.received or (step == 2 and rank == 1)
        decided.append(consensus.decide())
    assert consensus.wait().stop
    assert consensus.stop()
    assert consensus.wait().stop
    return decided


def _process(rank: int, folder: str, data: list[str]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for case in CASES:
        torch.save(steps(words_of(case, data, 4)), f"{folder}/{case}-{rank}.pt")
    decided = decisions(rank)
    x = torch.arange(12.0).reshape(6, 2)[3 * rank : 3 * rank + 3]
    table = torch.arange(10, dtype=torch.int32).reshape(5, 2)[rank * 2 : rank * 3 + 2]
    asked = lookup_sharded(table, range(rank * 2, rank * 3 + 2), torch.tensor([4, 0, 4, 1])[: 4 - rank])
    norm = nn.Sequential(nn.BatchNorm1d(2))
    synchronise(norm, torch.device("cpu"))
    x.requires_grad_()
    y = norm(x[: 3 - rank])  # of different numbers of rows
    y.pow(3).sum().backward()
    torch.save([gather(torch.full((rank + 1, 1), rank)), asked, [*rank_slice(5)], y.detach(), x.grad, norm.state_dict(),
                sum_over_processes(torch.tensor([1 + rank])), broadcast_from_rank0(torch.tensor([7 + rank])), decided],
               f"{folder}/collectives-{rank}.pt")  # fmt: skip
    dist.barrier()
    os._exit(0)  # torch 2.14 may abort when the interpreter ends after DistributedDataParallel


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """36 training videos long enough for two clips apart, and features of three clips of each."""
    return made_with_features(tmp_path_factory)[0]


@pytest.fixture(scope="module")
def pair(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    run_together(_process, (str(folder), data), 2)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_take_the_steps_of_one(case, pair, data):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    losses, gradients, tables = steps(words_of(case, data, 8))
    torch.set_num_threads(threads)
    parts = [torch.load(pair / f"{case}-{rank}.pt") for rank in range(2)]
    for step in range(STEPS):
        mean = (parts[0][0][step] + parts[1][0][step]) / 2
        torch.testing.assert_close(mean, losses[step], rtol=1e-4, atol=1e-5)
    # they differ by rounding, some 5e-6; where that puts a ReLU on its other side, in a step, by up to 5e-3
    assert gradients[0].norm() > 1e-3
    for part in parts:
        apart = [float((ours - g).norm() / g.norm()) for ours, g in zip(part[1], gradients, strict=True)]
        assert apart[0] <= 1e-2
        assert min(apart) <= 2e-5
    for name, table in tables.items():
        joined = torch.cat([part[2][name] for part in parts])
        close = 4e-3 if table.dtype == torch.float16 else 1e-4
        torch.testing.assert_close(joined, table, rtol=close, atol=close)
        if name.startswith(("labels", "prototypes")):
            assert torch.equal(joined, table)


def test_collectives(pair):
    parts = [torch.load(pair / f"collectives-{rank}.pt", weights_only=False) for rank in range(2)]
    whole = nn.BatchNorm1d(2)
    x = torch.arange(12.0).reshape(6, 2)[[0, 1, 2, 3, 4]].requires_grad_()
    y = whole(x)
    y.pow(3).sum().backward()
    torch.testing.assert_close(torch.cat([p[3] for p in parts]), y.detach())
    torch.testing.assert_close(torch.cat([parts[0][4], parts[1][4][:2]]), x.grad, rtol=1e-4, atol=1e-4)
    for rank, (gathered, asked, mine, _, _, state, total, first, _) in enumerate(parts):
        assert gathered.flatten().tolist() == [0, 1, 1]
        assert asked.tolist() == [[8, 9], [0, 1], [8, 9], [2, 3]][: 4 - rank]
        assert mine == [[0, 1], [2, 3, 4]][rank]
        assert total.tolist() == [3]
        assert first.tolist() == [7]
        for name, value in whole.state_dict().items():
            torch.testing.assert_close(state[f"0.{name}"], value)


def test_processes_decide_together_one_step_later_and_a_single_one_at_once(pair):
    by_rank = [torch.load(pair / f"collectives-{rank}.pt", weights_only=False)[-1] for rank in range(2)]
    assert by_rank[0] == by_rank[1]
    assert [decision.save for decision in by_rank[0]] == [False, False, True, False, False]
    assert [decision.stop for decision in by_rank[0]] == [False, False, False, False, True]
    alone = decisions(1)
    assert [decision.stop for decision in alone] == [False, False, False, True, True]


def test_synchronised_norms_keep_the_keys_of_a_model():
    model = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.Sequential(nn.BatchNorm1d(2, affine=False)))
    before = model.state_dict()
    synchronise(model, torch.device("cpu"))
    assert model.state_dict().keys() == before.keys()
    assert [type(m) for m in model.modules()].count(SyncNorm) == 2
    x = torch.randn(3, 1, 2, 2, 2)
    model.eval()
    assert torch.isfinite(model[1](model[0](x))).all()


def lines_of(run: Path) -> list[dict]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for_step(run: Path, step: int, processes: list[Started]) -> None:
    while not any(line["step"] >= step for line in lines_of(run)):
        assert all(p.running for p in processes), processes[0].text()
        time.sleep(0.02)


def test_a_training_goes_on_in_another_number_of_processes(data, tmp_path, capsys):
    words = [*words_of("selavi", data, 4), "log_steps=1", "save_seconds=0", "optim.epochs=3", "optim.scale_lr=false"]
    whole = [*words_of("selavi", data, 8), "log_steps=1", "optim.epochs=3"]
    assert main(["train", *whole, f"out={tmp_path / 'whole'}"]) == 0
    run = tmp_path / "run"
    processes = start_together([*words, f"out={run}"], tmp_path)
    wait_for_step(run, 5, processes)
    for process in processes:
        process.send(signal.SIGUSR1)
    for process in processes:
        assert process.end() not in (0, 1, 2), process.text()
    state = load_run_state(run)
    assert (state["processes"], state["batch"]) == (2, 8)
    assert state["step"] < 14
    capsys.readouterr()
    assert main(["train", *words, f"out={run}"]) == 0
    assert "1 processes instead of 2" in capsys.readouterr().out
    ours, theirs = (
        {x["step"]: x["loss"] for x in lines_of(r) if x["kind"] == "train"} for r in (run, tmp_path / "whole")
    )
    assert ours.keys() == theirs.keys()
    for step in range(3):  # later, rounding grows
        assert ours[step] == pytest.approx(theirs[step], rel=1e-3)
    assert load_run_state(run)["labeller"]["labels"].shape == (36, 4)
    few = [*words, "optim.batch=2", "optim.epochs=1", f"out={tmp_path / 'few'}"]
    assert main(["train", *few]) == 0
    processes = start_together(few, tmp_path, 3)
    for process in processes:
        process.end()
    assert any("resume in at most 2" in process.text() for process in processes)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "said"), [(signal.SIGKILL, "process 1"), (signal.SIGSTOP, "process 1")])
def test_a_process_that_is_gone_or_hangs_ends_the_others(number, said, data, tmp_path):
    run = tmp_path / "run"
    words = [*words_of("selavi", data, 4), "log_steps=1", "optim.epochs=500", "launch.timeout=15", f"out={run}"]
    processes = start_together(words, tmp_path)
    wait_for_step(run, 2, processes)
    processes[1].send(number)
    status = processes[0].end()
    processes[1].process.kill()
    processes[1].process.join()
    assert status not in (0, 2, 75, 130)
    assert said in processes[0].text()
    assert json.loads((run / "status.json").read_text())["state"] == "failed"
