"""The cluster sizes asked for: distributions, seeds, the pairing with clusters, and every wrong option."""

import contextlib
import io
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from avssl.config import LabellingConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.core.errors import UserError
from avssl.selflabel.labeller import PassFeatures, evidence
from avssl.selflabel.marginals import (
    Empirical,
    Exponential,
    Gaussian,
    Given,
    Marginal,
    Uniform,
    Zipf,
    make_marginal,
    match_to_mass,
    uniform,
    zipf,
)
from avssl.selflabel.sinkhorn import sinkhorn
from avssl.selflabel.transport_labeller import TransportLabeller

sizes = st.lists(st.floats(0, 1.7e308), min_size=1, max_size=20).filter(any)
marginals = st.one_of(
    st.just(Uniform()),
    st.builds(Gaussian, st.floats(0, 1e6)),
    st.builds(Zipf, st.floats(0, 1e6)),
    st.builds(Exponential, st.floats(0, 1e300)),
    st.builds(Empirical, st.floats(0, 1)),
)


@settings(max_examples=200, deadline=None)
@given(marginal=marginals, clusters=st.integers(1, 400), heads=st.integers(1, 5), seed=st.integers(0, 2**40))
def test_every_draw_is_a_distribution(marginal, clusters, heads, seed):
    drawn = marginal.draw(clusters, heads, seed)
    assert drawn.shape == (heads, clusters)
    assert drawn.dtype == torch.float64
    assert (drawn >= 0).all()
    torch.testing.assert_close(drawn.sum(1), torch.ones(heads, dtype=torch.float64), atol=1e-12, rtol=0)
    count = torch.rand(clusters, generator=torch.Generator().manual_seed(seed))
    r = marginal.masses(drawn[0], count + 1e-3)
    assert r.shape == (clusters,)
    assert r.dtype == torch.float64
    assert float(r.sum()) == pytest.approx(1, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(marginal=marginals, clusters=st.integers(1, 30), seed=st.integers(0, 2**40))
def test_a_draw_is_a_function_of_seed_and_head(marginal, clusters, seed):
    many = marginal.draw(clusters, 6, seed)
    assert (many == marginal.draw(clusters, 6, seed)).all()
    assert (many[:2] == marginal.draw(clusters, 2, seed)).all()


def test_heads_and_seeds_draw_independently():
    draws = torch.cat([Gaussian(0.1).draw(500, 4, seed) for seed in (0, 1, 2)])
    correlation = torch.corrcoef(draws).fill_diagonal_(0)
    assert float(correlation.abs().max()) < 0.2  # 4.5 standard errors


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.3])
def test_gaussian_has_the_deviation_asked_for(sigma):
    drawn = Gaussian(sigma).draw(2000, 3, 5)
    torch.testing.assert_close(
        drawn.std(1) * 2000, torch.full((3,), sigma, dtype=torch.float64), atol=1e-12, rtol=0.1
    )  # in mean sizes


def test_a_wide_gaussian_leaves_no_cluster_empty():
    drawn = Gaussian(2.0).draw(1000, 1)[0]
    assert float(drawn.min()) > 0
    assert float(drawn.min()) == pytest.approx(float(drawn.max()) * 0.01 / 7, rel=0.5)


def test_the_falling_families():
    torch.testing.assert_close(Zipf(1.5).draw(3, 1)[0], zipf(3, 1.5))
    assert (zipf(4)[0] / zipf(4)).tolist() == pytest.approx([1, 2, 3, 4])
    assert Zipf(0).draw(5, 1)[0].tolist() == pytest.approx(uniform(5).tolist())
    r = Exponential(2.0).draw(6, 1)[0]
    assert (r[1:] / r[:-1]).tolist() == pytest.approx([math.exp(-0.5)] * 5)
    r = Exponential().draw(300, 1)[0]
    assert float(r[0] / r[-1]) == pytest.approx(math.exp(3 * 299 / 300))


@settings(max_examples=100, deadline=None)
@given(sizes=sizes)
@example(sizes=[5e-324, 0.0])
@example(sizes=[1.7e308] * 3)
def test_given_sizes_keep_their_proportions(sizes):
    drawn = Given(tuple(sizes)).draw(len(sizes), 2)
    assert (drawn[0] == drawn[1]).all()
    assert float(drawn[0].sum()) == pytest.approx(1, abs=1e-12)
    largest = max(sizes)
    assert (drawn[0] / drawn[0].max()).tolist() == pytest.approx([size / largest for size in sizes])


@pytest.mark.parametrize("sizes", [(1.0, 2.0), (1.0, -1.0, 2.0), (0.0, 0.0, 0.0), (1.0, math.nan, 2.0)])
def test_given_without_options_refuses_what_is_no_distribution(sizes):
    with pytest.raises(ValueError, match="given sizes"):
        Given(sizes).draw(3, 1)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), clusters=st.integers(1, 30))
def test_gaussian_is_the_right_way_up(seed, clusters):
    marginal = Gaussian(0.1)
    drawn = marginal.draw(clusters, 1, seed)[0]
    count = torch.rand(clusters, generator=torch.Generator().manual_seed(seed))
    r = marginal.masses(drawn, count)
    assert sorted(r.tolist()) == sorted(drawn.tolist())
    assert r.argsort().tolist() == count.argsort().tolist()
    assert int(r.argmax()) == int(count.argmax())


def clusters_of_sizes(counts: list[int], margin: float, noise: float, seed: int = 0) -> torch.Tensor:
    """log p [N, K] of videos that prefer one cluster each: `counts` of them, by `margin` nats, through noise."""
    cluster = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    logits = margin * torch.nn.functional.one_hot(cluster, len(counts)).float()
    return (logits + noise * torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed))).log_softmax(1)


def objective(log_p: torch.Tensor, r: torch.Tensor, lam: float) -> float:
    """<Q, log P> + (2/λ) H(Q) of the solution under column masses r."""
    solved = sinkhorn(log_p, r, lam, tolerance=1e-6, max_iterations=2000)
    q = (log_p.double() * lam / 2 + solved.log_alpha).softmax(1) / len(log_p)
    return float((q * log_p).sum() + 2 / lam * torch.special.entr(q).sum())


ATOL = 1e-5  # of the objective: `log_alpha` is float32


def test_the_largest_gaussian_mass_labels_the_largest_cluster():
    counts = [30, 44, 36, 50]
    log_p = clusters_of_sizes(counts, 3.0, 0.3)
    drawn = Gaussian(0.3).draw(4, 1, 1)[0]
    r = Gaussian(0.3).masses(drawn, log_p.exp().sum(0))
    labels = torch.bincount(sinkhorn(log_p, r, tolerance=1e-3).labels, minlength=4)
    assert labels.argsort().tolist() == [0, 2, 1, 3]
    assert (labels - 160 * r).abs().max() <= 2


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    case=st.sampled_from([(Zipf(), 0.25), (Exponential(), 0.25), (Given((1, 9, 0, 3, 2)), 0.25), (Gaussian(), 0.0)]),
    lam=st.sampled_from([2.0, 20.0]),
)
@example(seed=2224, case=(Zipf(), 0.25), lam=20.0)  # not the best order, by 1.6e-3
def test_the_matched_order_has_a_transport_objective_at_least_that_of_any_random_order(seed, case, lam):
    """Exactly under clear clusters; through noise, and where masses differ, nearly so, as in the next test."""
    marginal, noise = case
    g = torch.Generator().manual_seed(seed)
    counts = [[64, 32, 16, 8, 4][i] for i in torch.randperm(5, generator=g).tolist()]
    log_p = clusters_of_sizes(counts, 4.0, noise, seed)
    drawn = marginal.draw(5, 1, seed)[0]
    matched = objective(log_p, marginal.masses(drawn, log_p.exp().sum(0)), lam)
    values = [objective(log_p, drawn[torch.randperm(5, generator=g)], lam) for _ in range(10)]
    assert max(values) - matched <= (0.05 * (max(values) - min(values)) if noise else 0) + ATOL


@pytest.mark.parametrize("seed", range(5))
def test_through_noise_the_matched_order_is_nearly_the_best_of_all(seed):
    log_p = clusters_of_sizes([6, 24, 12, 48], 4.0, 1.0, seed)
    drawn = Gaussian().draw(4, 1, seed)[0]
    matched = objective(log_p, match_to_mass(drawn, log_p.exp().sum(0)), 20.0)
    values = [objective(log_p, drawn[list(order)], 20.0) for order in itertools.permutations(range(4))]
    assert max(values) - matched <= 0.05 * (max(values) - min(values)) + ATOL


@settings(max_examples=10, deadline=None)
@given(
    counts=st.lists(st.integers(1, 30), min_size=4, max_size=4),
    margin=st.floats(0.1, 6),
    lam=st.sampled_from([2.0, 20.0]),
)
def test_the_matched_order_is_the_best_of_all_where_videos_differ_only_in_their_cluster(counts, margin, lam):
    log_p = clusters_of_sizes(counts, margin, 0.0)
    drawn = zipf(4)
    matched = objective(log_p, match_to_mass(drawn, log_p.exp().sum(0)), lam)
    best = max(objective(log_p, drawn[list(order)], lam) for order in itertools.permutations(range(4)))
    assert matched == pytest.approx(best, abs=ATOL)


def two_modalities(seed: int, margin: float, noise: float) -> dict[str, torch.Tensor]:
    """Logits [200, 5] of a video and an audio head that see a long-tailed class in seven of ten videos, and in the
    others any; each has a leaning of its own to some clusters."""
    g = torch.Generator().manual_seed(seed)
    sizes = torch.tensor([60.0, 30, 20, 15, 12])[torch.randperm(5, generator=g)]
    classes = torch.multinomial(sizes, 200, True, generator=g)
    found = {}
    for name in ("video", "audio"):
        seen = torch.where(torch.rand(200, generator=g) < 0.7, classes, torch.randint(0, 5, (200,), generator=g))
        leaning = 0.5 * torch.randn(5, generator=g)
        found[name] = margin * torch.nn.functional.one_hot(seen, 5) + noise * torch.randn(200, 5, generator=g) + leaning
    return found


@pytest.mark.parametrize("marginal", ["zipf", "exponential"])
@pytest.mark.parametrize(("margin", "noise"), [(1.0, 1.0), (2.0, 1.0), (3.0, 1.0), (4.0, 2.0)])
def test_sizes_are_paired_by_the_joint_probabilities(marginal, margin, noise):
    """On the average over draws, the transport objective is higher than after pairing by their square root."""
    gain, differ = 0.0, 0
    for seed in range(12):
        logits = two_modalities(seed, margin, noise)
        labeller = TransportLabeller(200, LabellingConfig(clusters=5, marginal=marginal), 5, seed)
        drawn = labeller.marginals[0].clone()
        _, masses = labeller.transport(0, PassFeatures(torch.arange(200), logits, lambda head, parts: parts))
        log_p = evidence(logits)
        assert torch.equal(masses, match_to_mass(drawn, log_p.softmax(1).double().sum(0)))
        other = match_to_mass(drawn, (log_p / 2).softmax(1).double().sum(0))
        if not torch.equal(masses, other):
            differ += 1
            gain += objective(log_p, masses, 20.0) - objective(log_p, other, 20.0)
    assert differ > 0
    assert gain > 0


def test_the_matched_order_is_the_best_of_all_where_videos_are_alike():
    log_p = torch.randn(1, 4, generator=torch.Generator().manual_seed(0)).log_softmax(1).repeat(20, 1)
    drawn = zipf(4)
    values = {order: objective(log_p, drawn[list(order)], 5.0) for order in itertools.permutations(range(4))}
    best = drawn[list(max(values, key=values.__getitem__))]
    torch.testing.assert_close(match_to_mass(drawn, log_p.exp().sum(0)), best)


counts = st.lists(st.one_of(st.just(0.0), st.floats(1e-30, 1e6)), min_size=1, max_size=30).filter(any)


@settings(max_examples=300, deadline=None)
@given(count=counts, floor=st.floats(0, 1))
@example(count=[0.0, 0.0, 7.0], floor=1.0)
@example(count=[0.1] * 7, floor=1.0)
def test_empirical_has_a_floor_and_keeps_proportions_above_it(count, floor):
    soft_count = torch.tensor(count, dtype=torch.float64)
    r = Empirical(floor).masses(uniform(len(count)), soft_count)
    least = floor / len(count)
    assert float(r.sum()) == pytest.approx(1, abs=1e-12)
    assert (r >= least).all()
    share = soft_count / soft_count.sum()
    above = r > least * (1 + 1e-9)
    ratio = r[above] / share[above]
    if len(ratio):
        assert float(ratio.max()) <= 1 + 1e-9  # what the floor takes, the large ones give in proportion
        assert ratio.tolist() == pytest.approx([float(ratio[0])] * len(ratio))
        assert (share[~above] * ratio[0] <= least * (1 + 1e-9)).all()
    # a fixed point: masses at or above the floor are left as they are
    again = Empirical(floor).masses(uniform(len(count)), 1000 * r)
    torch.testing.assert_close(again, r, atol=1e-12, rtol=1e-9)


def test_empirical_at_its_ends():
    count = torch.tensor([6.0, 0.0, 2.0])
    assert Empirical(0.0).masses(uniform(3), count).tolist() == pytest.approx([0.75, 0, 0.25])
    assert Empirical(1.0).masses(uniform(3), count).tolist() == pytest.approx([1 / 3] * 3)
    assert Empirical(0.3).masses(uniform(3), count).tolist() == pytest.approx([0.675, 0.1, 0.225])
    assert Empirical().draw(4, 2).tolist() == [[0.25] * 4] * 2


def test_empirical_finds_the_sizes_of_the_clusters_and_stays_there():
    counts = [90, 40, 20, 10]
    log_p = clusters_of_sizes(counts, 5.0, 0.5)
    marginal = Empirical()
    r = marginal.draw(4, 1)[0]
    soft_count = log_p.exp().sum(0)
    for _ in range(50):
        r = marginal.masses(r, soft_count)
        solved = sinkhorn(log_p, r, tolerance=1e-3)
        soft_count = (log_p * 10 + solved.log_alpha).softmax(1).sum(0)  # a model that has learnt its labels
    assert (torch.bincount(solved.labels, minlength=4) - torch.tensor(counts)).abs().max() <= 5


@pytest.mark.parametrize("count", [[math.nan, 1.0], [math.inf, 1.0], [-1.0, 2.0], [0.0, 0.0]])
def test_empirical_refuses_what_is_no_count(count):
    with pytest.raises(ValueError, match="soft counts"):
        Empirical().masses(uniform(2), torch.tensor(count))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Uniform()),
        ({"marginal": "gaussian"}, Gaussian(0.1)),
        ({"marginal": "gaussian", "marginal_parameter": 0.5}, Gaussian(0.5)),
        ({"marginal": "zipf", "marginal_parameter": 2.0}, Zipf(2.0)),
        ({"marginal": "exponential"}, Exponential(0.0)),
        ({"marginal": "exponential", "marginal_parameter": 7.0}, Exponential(7.0)),
        ({"marginal": "given", "sizes": [3, 1, 2, 0]}, Given((3.0, 1.0, 2.0, 0.0))),
        ({"marginal": "empirical", "marginal_parameter": 0.2}, Empirical(0.2)),
    ],
)
def test_options_make_the_marginal(options, expected):
    made = make_marginal(LabellingConfig(clusters=4, **options))
    assert isinstance(made, Marginal)
    assert made == expected


def test_options_come_from_the_command_line():
    words = ["data.root=x", "labelling.clusters=3", "labelling.marginal=given", "labelling.sizes=[3,2,1]"]
    config = compose_config("train", TrainConfig, words).labelling
    assert make_marginal(config).draw(3, 1)[0].tolist() == pytest.approx([1 / 2, 1 / 3, 1 / 6])
    for name in ("uniform", "gaussian", "zipf", "exponential", "empirical"):
        config = compose_config("train", TrainConfig, ["data.root=x", f"labelling.marginal={name}"]).labelling
        assert make_marginal(config).draw(10, 2).shape == (2, 10)


def from_file(path) -> Given:
    return make_marginal(LabellingConfig(clusters=3, marginal="given", sizes=[str(path)]))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sizes.txt", "30\n\n10.0\n2e1\n"),
        ("sizes.txt", "\ufeff30\r\n10\r\n20"),
        ("sizes", "30, 10, 20\n"),
        ("sizes.csv", "30,10,20\n"),
        ("sizes.csv", "videos\n30\n10\n20\n"),
        ("SIZES.CSV", '"a","b","c"\n30,10,20\n'),
    ],
)
def test_sizes_from_text(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert from_file(path) == Given((30.0, 10.0, 20.0))


@pytest.mark.parametrize("shape", [(3,), (3, 1), (1, 3)])
@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_sizes_from_npy(tmp_path, shape, dtype):
    path = tmp_path / "sizes.npy"
    np.save(path, np.array([30, 10, 20], dtype).reshape(shape))
    assert from_file(path) == Given((30.0, 10.0, 20.0))


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"marginal": "poisson"}, ["labelling.marginal=poisson", "gaussian"]),
        (
            {"marginal": "gaussian", "marginal_parameter": math.nan},
            ["marginal_parameter=nan", "from 0 to 10"],
        ),
        ({"marginal": "gaussian", "marginal_parameter": -0.1}, ["labelling.marginal_parameter=-0.1", "from 0 to 10"]),
        ({"marginal": "zipf", "marginal_parameter": math.inf}, ["labelling.marginal_parameter=inf", "from 0 to 10"]),
        ({"marginal": "exponential", "marginal_parameter": -1.0}, ["labelling.marginal_parameter=-1", "from 0 to"]),
        ({"marginal": "empirical", "marginal_parameter": 1.5}, ["labelling.marginal_parameter=1.5", "from 0 to 1"]),
        (
            {"marginal": "given"},
            ["labelling.marginal=given", "sizes=50,30,20", "sizes=[sizes.csv]"],
        ),
        ({"marginal": "given", "sizes": ["1", "x"]}, ["labelling.sizes", "only numbers, or one file"]),
        ({"marginal": "given", "sizes": [1.0, 2.0]}, ["labelling.sizes", "2 sizes", "labelling.clusters=3"]),
        ({"marginal": "given", "sizes": [1.0, -2.0, 3.0]}, ["labelling.sizes", "size 2 is -2", "at least 0"]),
        ({"marginal": "given", "sizes": [1.0, 2.0, math.nan]}, ["labelling.sizes", "size 3 is nan", "finite"]),
        ({"marginal": "given", "sizes": [math.inf, 2.0, 3.0]}, ["labelling.sizes", "size 1 is inf", "finite"]),
        ({"marginal": "given", "sizes": [0.0, 0.0, 0.0]}, ["labelling.sizes", "every size is 0"]),
        ({"sizes": [1.0, 2.0, 3.0]}, ["labelling.sizes ", "labelling.marginal=given", "uniform"]),
        ({"marginal_parameter": 2.0}, ["labelling.marginal_parameter ", "labelling.marginal=uniform", "zipf"]),
        ({"marginal": "zipf", "sizes": ["x"]}, ["labelling.sizes ", "labelling.marginal=given", "zipf"]),
    ],
)
def test_a_wrong_option_is_one_line(options, parts):
    with pytest.raises(UserError) as error:
        make_marginal(LabellingConfig(clusters=3, **options))
    assert all(part in str(error.value) for part in parts), error.value
    assert "\n" not in str(error.value)


def npy(array: np.ndarray) -> bytes:
    """What `np.save` writes, object arrays as pickles."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


VECTOR = npy(np.arange(3.0))


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("sizes.txt", b"", ["0 sizes", "labelling.clusters=3"]),
        ("sizes.txt", b"1\n2\n", ["2 sizes", "labelling.clusters=3"]),
        ("sizes.txt", b"1\nmany\n2\n", ["line 2", "'many'"]),
        ("sizes.txt", b"videos\n1\n2\n3\n", ["line 1", "'videos'"]),
        ("sizes.csv", b"videos\n1\n\n2\nmany", ["line 5", "'many'"]),
        ("sizes.csv", b"cluster,videos\n0,30\n1,10\n2,20\n", ["2 columns", "keep only the one"]),
        ("sizes.csv", b"1;2;3\n", ["line 1", "'1;2;3'"]),
        ("sizes.txt", b"1\n-2\n3\n", ["size 2 is -2"]),
        ("sizes.txt", b"nan\n2\n3\n", ["size 1 is nan"]),
        ("sizes.txt", b"0\n0\n0\n", ["every size is 0"]),
        ("sizes.txt", b"\xff\xfe\x00\x81", ["neither text nor .npy"]),
        ("sizes.csv", b"1\n" + b"9" * 200_000, ["neither text nor .npy"]),
        ("sizes.npy", b"1\n2\n3\n", ["neither text nor .npy"]),
        ("sizes.npy", VECTOR[:-4], ["neither text nor .npy"]),
        ("sizes.npy", VECTOR[:40], ["neither text nor .npy"]),
        ("sizes.npy", b"", ["neither text nor .npy"]),
        ("sizes.npy", npy(np.array([1, None, 2])), ["neither text nor .npy"]),
        ("sizes.npy", npy(np.array(["1", "2", "3"])), ["contains <U1"]),
        ("sizes.npy", npy(np.array([1j, 2, 3])), ["contains complex128"]),
        ("sizes.npy", npy(np.ones((3, 2))), ["2 columns", "keep only the one"]),
        ("sizes.npy", npy(np.ones((0, 2))), ["0 sizes"]),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, name, content, parts):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        from_file(path)
    assert all(part in str(error.value) for part in [f"labelling.sizes=[{path}]", *parts]), error.value
    assert "\n" not in str(error.value)


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, len(VECTOR) - 1), byte=st.integers(0, 255))
def test_a_damaged_npy_is_one_line_or_numbers(tmp_path_factory, place, byte):
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    path.write_bytes(VECTOR[:place] + bytes([byte]) + VECTOR[place + 1 :])
    with contextlib.suppress(UserError):
        assert len(from_file(path).sizes) == 3


def test_a_file_that_cannot_be_opened_is_one_line(tmp_path):
    for path, why in ((tmp_path / "none.csv", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UserError, match=why) as error:
            from_file(path)
        assert f"labelling.sizes=[{path}]" in str(error.value)
        assert "give a file with one size per line" in str(error.value)
