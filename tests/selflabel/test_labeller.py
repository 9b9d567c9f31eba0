"""When labels are solved, and what the label table keeps."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from sklearn.metrics import adjusted_rand_score

from avssl.config import LabellingConfig
from avssl.selflabel import kmeans_labeller as baselines
from avssl.selflabel.kmeans_labeller import CrossModalLabeller, KMeansLabeller
from avssl.selflabel.labeller import UNLABELLED, Labeller, PassFeatures, evidence
from avssl.selflabel.labelling_steps import labelling_steps
from avssl.selflabel.memory import NOTHING, Bank, Queue
from avssl.selflabel.transport_labeller import TransportLabeller
from tests.processes import run_together

VIDEOS, CLUSTERS = 60, 4


def outputs(index=None, heads=2, scale=1.0, seed=0):
    """Features that are logits already: head h sees those of both modalities rolled by h."""
    index = torch.arange(VIDEOS) if index is None else index
    generator = torch.Generator().manual_seed(seed)
    features = {n: scale * torch.randn(VIDEOS, CLUSTERS, generator=generator)[index] for n in ("video", "audio")}
    return PassFeatures(index, features, lambda head, parts: {name: x.roll(head, 1) for name, x in parts.items()})


def labeller(kind=TransportLabeller, videos=VIDEOS, steps=5, **options) -> Labeller:
    defaults = {"clusters": CLUSTERS, "heads": 2, "passes": 2}
    return kind(videos, LabellingConfig(**defaults | options), steps)


def test_the_published_schedule():
    steps = labelling_steps(1000, 5, 1.5)
    assert steps == [0, 125, 354, 650, 1000]
    assert labelling_steps(10, 1) == [0]
    assert len(labelling_steps(3, 100)) == 4  # every step at most once


def test_the_released_schedule_ends_before_training_does():
    assert labelling_steps(1000, 5, 1.5, at_end=False) == [0, 125, 354, 650]
    assert labelling_steps(10, 1, at_end=False) == [0]
    assert labelling_steps(7, 100, at_end=False)[-1] == 6
    ours = labeller(steps=5, released=["no_last_pass"])
    ours.solve([outputs()])
    assert not any(ours.due(step) for step in range(1, 6))


def test_evidence_of_two_modalities_and_of_one():
    z_v, z_a = torch.randn(2, 3, 5, 4)
    both = evidence({"video": z_v, "audio": z_a})
    torch.testing.assert_close(both, z_v.log_softmax(-1) + z_a.log_softmax(-1))
    torch.testing.assert_close(evidence({"audio": z_a}), 2 * z_a.log_softmax(-1))


@pytest.mark.parametrize("kind", [TransportLabeller, KMeansLabeller, CrossModalLabeller])
def test_videos_without_evidence_keep_no_label_and_state_survives(kind):
    ours = labeller(kind)
    assert ours.due(0)
    ours.solve([outputs(torch.arange(VIDEOS - 1))])
    assert (ours.labels[-1] == UNLABELLED).all()
    assert (ours.labels[:-1] >= 0).all()
    assert not ours.due(4)
    assert ours.due(5)
    other = labeller(kind)
    other.load_state_dict(ours.state_dict())
    other.load_row_state(ours.row_state())
    for modality in ("video", "audio"):
        index = torch.tensor([7, 59, 7])
        assert torch.equal(other.targets(index, modality), ours.targets(index, modality))
    assert other.due(5)
    assert not other.due(4)
    assert torch.equal(other.costs, ours.costs)


@pytest.mark.parametrize("marginal", ["uniform", "gaussian", "zipf", "exponential"])
@pytest.mark.parametrize("memory", ["full", "stream"])
def test_the_plan_has_the_masses_asked_for(marginal, memory):
    ours = labeller(marginal=marginal, memory=memory)
    seen = outputs(scale=0.1)
    solved = ours.solve([seen])
    for head in range(2):
        assert solved.errors[head] <= ours.config.tolerance
        log_p = evidence(seen.block(head, 0, VIDEOS)).double()
        plan = (log_p * ours.config.lam / 2 + ours.log_alpha[head]).softmax(-1).mean(0)
        expected = ours.marginals[head].sort().values
        torch.testing.assert_close(plan.sort().values, expected, atol=0.1 / VIDEOS, rtol=0)


def test_streamed_evidence_gives_the_same_labels():
    full, stream = labeller(memory="full"), labeller(memory="stream")
    for each in (full, stream):
        each.solve([outputs()])
    assert torch.equal(full.labels, stream.labels)


def test_the_empirical_marginal_follows_the_model():
    ours = labeller(marginal="empirical", heads=1)
    features = {n: 4 * torch.eye(CLUSTERS)[torch.tensor([0] * 40 + [1] * 12 + [2] * 8)] for n in ("video", "audio")}
    ours.solve([PassFeatures(torch.arange(VIDEOS), features, lambda head, parts: parts)])
    assert torch.bincount(ours.labels[:, 0].long(), minlength=CLUSTERS)[:3].tolist() == [40, 12, 8]


def test_groups_are_labelled_from_their_own_pass():
    ours = labeller(heads=5)
    groups = [outputs(seed=1), outputs(seed=2), outputs(seed=3)]
    assert [ours.heads_of(g, groups) for g in groups] == [[0], [1, 2], [3, 4]]
    ours.solve(groups)
    for group, heads in zip(groups, (range(0, 1), range(1, 3), range(3, 5)), strict=True):
        alone = labeller(heads=5)
        alone.solve([group])
        for head in heads:
            assert torch.equal(ours.labels[:, head], alone.labels[:, head])
    assert len(ours.costs) == 5


def test_shuffled_groups_are_drawn_anew_at_each_labelling():
    ours, again = (labeller(heads=5, released=["shuffle_groups"], passes=9, steps=900) for _ in range(2))
    groups = [outputs(seed=1), outputs(seed=2)]
    seen = []
    for _ in range(6):
        split = [ours.heads_of(g, groups) for g in groups]
        assert sorted(split[0] + split[1]) == [0, 1, 2, 3, 4]
        assert [len(heads) for heads in split] == [2, 3]
        assert split == [again.heads_of(g, groups) for g in groups]
        solved = ours.solve(groups)
        again.done += 1  # as one that is resumed from a checkpoint
        for group, heads in zip(groups, split, strict=True):
            alone = labeller(heads=5)
            costs = alone.solve([group]).costs
            for head in heads:
                assert torch.equal(ours.labels[:, head], alone.labels[:, head])
                assert solved.costs[head] == costs[head]
        seen.append(split)
    assert len({str(split) for split in seen}) > 1


def test_a_batch_is_labelled_together_with_the_queue():
    ours = labeller(mode="batch", heads=2)
    assert ours.steps == [0]
    ours.solve([outputs()])
    before, cost = ours.labels.clone(), ours.costs.clone()
    index = torch.tensor([5, 3, 40, 41, 42, 43, 44, 45])
    seen = outputs(index, seed=4)
    logits = {name: torch.stack([seen.block(head, 0, 8)[name] for head in range(2)]) for name in seen.features}
    found = ours.solve_batch(slice(0, 2), logits, torch.ones(8, dtype=torch.bool))
    ours.keep(index[:2], found[:, :2])
    labels = ours.row_state()["labels"]
    assert torch.equal(labels[[5, 3]].long(), found[:, :2].T)
    assert set((before != labels).any(1).nonzero().squeeze(1).tolist()) <= {3, 5}
    for head in range(2):
        log_p = evidence(seen.block(head, 0, 8))
        of_batch = -log_p.gather(1, found[head][:, None]).mean()
        assert ours.costs[head] == pytest.approx(0.99 * cost[head] + 0.01 * of_batch)


def test_k_means_finds_clusters_and_keeps_their_numbers():
    rng = torch.Generator().manual_seed(0)
    truth = torch.arange(VIDEOS) % CLUSTERS
    centres = torch.eye(CLUSTERS)

    def seen(numbers):
        features = {
            n: centres[numbers] + 0.05 * torch.randn(VIDEOS, CLUSTERS, generator=rng) for n in ("video", "audio")
        }
        return [PassFeatures(torch.arange(VIDEOS), features, lambda head, parts: parts)]

    ours = labeller(KMeansLabeller)
    ours.solve(seen(truth))
    first = ours.labels.clone()
    for k in range(CLUSTERS):
        assert len(first[truth == k, 0].unique()) == 1
    ours.solve(seen(truth))  # another seed, the same clusters: the numbers stay
    assert torch.equal(ours.labels, first)
    assert ours.costs.max() < 0.1


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
@pytest.mark.parametrize("many", [20, 20_000])
def test_k_means_of_features_that_are_nearly_alike(many, scale, monkeypatch):
    """Cosines of 0.9999999, by all processes and by one: float32 still tells clusters apart once the mean is gone."""
    monkeypatch.setattr(baselines, "TOGETHER_ABOVE", many)
    truth = torch.arange(VIDEOS) % CLUSTERS
    generator = torch.Generator().manual_seed(0)
    corners = torch.eye(64)[:CLUSTERS][truth] + 0.02 * torch.randn(VIDEOS, 64, generator=generator)
    features = {"video": scale * (1 + 2.4e-3 * corners)}
    ours = labeller(KMeansLabeller, heads=1)
    ours.solve([PassFeatures(torch.arange(VIDEOS), features, lambda head, parts: parts)])
    assert adjusted_rand_score(truth, ours.labels[:, 0]) == 1


def test_xdc_exchanges_the_modalities():
    truth = {"video": torch.arange(VIDEOS) % CLUSTERS, "audio": torch.arange(VIDEOS) // 15}
    features = {name: torch.eye(CLUSTERS)[labels] for name, labels in truth.items()}
    ours = labeller(CrossModalLabeller, heads=1)
    ours.solve([PassFeatures(torch.arange(VIDEOS), features, lambda head, parts: parts)])
    for name, other in (("video", "audio"), ("audio", "video")):
        asked = ours.targets(torch.arange(VIDEOS), name)[0]
        pairs = {(int(a), int(b)) for a, b in zip(asked, truth[other], strict=True)}
        assert len(pairs) == CLUSTERS  # one to one with the other modality's clusters


def test_a_bank_holds_the_newest_and_a_queue_the_last():
    bank, queue = Bank(range(6)), Queue(3)
    for index, value in (([4, 1], 1.0), ([1, 5], 2.0), ([0, 0], 3.0)):
        for memory in (bank, queue):
            memory.write(torch.tensor(index), {"video": torch.full((2, 2), value)})
    index, features = bank.whole()
    assert index.tolist() == [0, 1, 4, 5]
    assert features["video"][:, 0].tolist() == [3, 2, 1, 2]
    index, features = queue.whole()
    assert index.tolist() == [5, 0, NOTHING]  # 1 has left, and the second 0 is the first one again
    assert features["video"][:, 0].tolist() == [2, 3, 3]
    for memory, empty in ((bank, Bank(range(6))), (queue, Queue(3))):
        empty.load_state_dict(memory.state_dict())
        empty.load_row_state(memory.row_state())
        assert torch.equal(empty.whole()[0], memory.whole()[0])
        assert torch.equal(empty.whole()[1]["video"], memory.whole()[1]["video"])


def _process(rank, world, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)

    def all_reduce(x):
        dist.all_reduce(x)
        return x

    rows = np.array_split(np.arange(VIDEOS), world)[rank]
    config = LabellingConfig(clusters=CLUSTERS, heads=2, marginal="empirical")
    ours = TransportLabeller(VIDEOS, config, 5, rows=range(rows[0], rows[-1] + 1), all_reduce=all_reduce)
    solved = ours.solve([outputs(torch.from_numpy(rows))])
    torch.save([ours.labels, ours.costs, solved.changed], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [2, 7])
def test_shards_are_one_labelling(world, tmp_path):
    run_together(_process, (world, str(tmp_path)), world)
    alone = labeller(marginal="empirical")
    solved = alone.solve([outputs()])
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(world)]
    assert torch.equal(torch.cat([p[0] for p in parts]), alone.labels)
    for _, costs, changed in parts:
        torch.testing.assert_close(costs, alone.costs)
        assert changed == pytest.approx(solved.changed) == 1.0


def test_kmeans_takes_any_seed():
    found = KMeansLabeller(VIDEOS, LabellingConfig(clusters=CLUSTERS), 5, 5_000_000)
    found.solve([outputs()])
    assert bool((found.labels != UNLABELLED).all())
