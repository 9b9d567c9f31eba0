"""How much each modality counts in the joint labels: alike, by numbers, or by how reliable it is."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import normalized_mutual_info_score

from avssl.config import LabellingConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.core.errors import UserError
from avssl.selflabel.labeller import PassFeatures, evidence
from avssl.selflabel.modality_weights import weights_from
from avssl.selflabel.transport_labeller import TransportLabeller
from avssl.train.check_options import check

K, N = 4, 240
TRUTH = np.arange(N) % K


def features(video: float, audio: float, seed: int = 0) -> dict[str, torch.Tensor]:
    """K clusters in 12 dimensions, at `video` and `audio` times the width of the noise from their middle."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, distance in (("video", video), ("audio", audio)):
        centres = distance * np.eye(K, 12)
        made[name] = torch.from_numpy(centres[TRUTH] + rng.standard_normal((N, 12))).float()
    return made


def by_heart(head, parts):
    """Logits of heads that find the clusters in the first K features, and have learnt by heart what is in the audio."""
    return {"video": 2 * parts["video"][:, :K], "audio": 6 * parts["audio"][:, :K]}


def labeller(words: list[str], **options) -> TransportLabeller:
    defaults = {"clusters": K, "heads": 2, "passes": 3, "modality_weights": words}
    return TransportLabeller(N, LabellingConfig(**defaults | options), 20)


def nmi(ours: TransportLabeller) -> float:
    return min(normalized_mutual_info_score(TRUTH, labels) for labels in ours.labels.T.numpy())


def test_equal_weights_are_no_weights_bit_for_bit():
    logits = {"video": 9 * torch.randn(3, 50, K), "audio": torch.randn(3, 50, K)}
    plain = logits["video"].log_softmax(-1) + logits["audio"].log_softmax(-1)
    assert torch.equal(evidence(logits), plain)
    ones = {name: torch.ones(3, 1, 1) for name in logits}
    assert torch.equal(evidence(logits, ones), plain)
    assert torch.equal(evidence({"audio": logits["audio"]}, ones), evidence({"audio": logits["audio"]}))
    seen = PassFeatures(torch.arange(N), features(3, 3), by_heart)
    equal, numbers = labeller(["equal"]), labeller(["video:2", "audio:2"])
    assert equal.weights is None
    for each in (equal, numbers):
        each.solve([seen])
    assert torch.equal(equal.labels, numbers.labels)
    assert torch.equal(equal.log_alpha, numbers.log_alpha)
    assert "modality_weights" not in equal.state_dict()


def test_weights_are_the_powers_of_the_probabilities():
    logits = {"video": torch.randn(5, K), "audio": torch.randn(5, K)}
    weights = {"video": torch.tensor(1.5), "audio": torch.tensor(0.5)}
    expected = 1.5 * logits["video"].log_softmax(-1) + 0.5 * logits["audio"].log_softmax(-1)
    torch.testing.assert_close(evidence(logits, weights), expected)


amounts = st.floats(0, 1)
spreads = st.floats(0, 50)


@given(amounts, amounts, spreads, spreads)
def test_weights_sum_to_the_number_of_modalities(one, other, wide, narrow):
    found = weights_from({"video": one, "audio": other}, {"video": wide, "audio": narrow})
    assert sum(found.values()) == pytest.approx(2)
    assert min(found.values()) >= 0
    swapped = weights_from({"video": other, "audio": one}, {"video": narrow, "audio": wide})
    assert found["video"] == pytest.approx(swapped["audio"])


def test_what_counts_is_whether_clusters_repeat_and_how_wide_the_evidence_is():
    alike = {"video": 2.0, "audio": 2.0}
    assert weights_from({"video": 0.5, "audio": 0.02}, alike) == {"video": 2.0, "audio": 0.0}
    assert weights_from({"video": 0.4, "audio": 0.8}, alike) == {"video": 1.0, "audio": 1.0}
    assert weights_from({"video": 0.0, "audio": 0.02}, alike) == {"video": 1.0, "audio": 1.0}
    wider = weights_from({"video": 0.5, "audio": 0.5}, {"video": 1.0, "audio": 3.0})
    assert wider["video"] == pytest.approx(1.5)


@pytest.mark.parametrize("memory", ["full", "stream"])
def test_noise_gets_no_weight_and_does_not_change_the_labels(memory):
    seen = PassFeatures(torch.arange(N), features(4, 0), by_heart)
    auto, equal = labeller(["auto"], memory=memory), labeller(["equal"], memory=memory)
    report = auto.solve([seen])
    equal.solve([seen])
    assert report.repeats["video"] > 0.4
    assert report.repeats["audio"] < 0.04
    assert all(x > 1.9 for x in report.modality_weights["video"])
    assert all(v + a == pytest.approx(2) for v, a in zip(*report.modality_weights.values(), strict=True))
    assert nmi(auto) > 0.9
    assert nmi(equal) < 0.5


def test_two_good_modalities_count_nearly_alike():
    auto = labeller(["auto"])
    alike = PassFeatures(torch.arange(N), features(4, 4), lambda head, parts: {n: x[:, :K] for n, x in parts.items()})
    report = auto.solve([alike])
    assert all(0.9 < x < 1.1 for weights in report.modality_weights.values() for x in weights)
    assert nmi(auto) > 0.95


def test_weights_are_smoothed_and_survive_in_a_checkpoint():
    auto, noise = labeller(["auto"]), PassFeatures(torch.arange(N), features(4, 0), by_heart)
    auto.solve([PassFeatures(torch.arange(N), features(4, 4), by_heart)])
    first = auto.weights["video"].clone()
    resumed = labeller(["auto"])
    resumed.load_state_dict(auto.state_dict())
    resumed.load_row_state({name: x.clone() for name, x in auto.row_state().items()})
    for each in (auto, resumed):
        each.solve([noise])
    torch.testing.assert_close(auto.weights["video"], (first + 2) / 2)
    assert torch.equal(auto.weights["video"], resumed.weights["video"])
    assert torch.equal(auto.labels, resumed.labels)


def test_the_last_pass_reports_what_repeats_also_with_equal_weights():
    equal, seen = labeller(["equal"]), PassFeatures(torch.arange(N), features(4, 0), by_heart)
    reports = [equal.solve([seen]) for _ in equal.steps]
    assert [bool(report.repeats) for report in reports] == [False, False, True]
    assert reports[-1].modality_weights == {}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("[video:1.5]", "no weight to each of video and audio"),
        ("[video:0,audio:0]", "not all 0"),
        ("[video:9999,audio:1]", "at most 1000"),
        ("[auto,video:1]", "write equal, auto, or numbers"),
        ("[video:1,video:2]", "no weight to each"),
        ("loud", "is not a valid value"),
        ("[video:-1,audio:3]", "is not a valid value"),
    ],
)
def test_wrong_weights_are_one_line(word, said):
    with pytest.raises(UserError, match=said) as error:
        check(compose_config("train", TrainConfig, ["data.root=x", f"labelling.modality_weights={word}"]))
    assert "labelling.modality_weights" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["labelling.modalities=[video]"], "not only video"),
        (["labelling.method=kmeans"], "labelling.method=kmeans does not use"),
        (["labelling.sharing=concat"], "needs evidence by modality"),
        (["labelling.mode=batch"], "give numbers"),
    ],
)
def test_weights_without_an_effect_are_refused(words, said):
    with pytest.raises(UserError, match=said):
        check(compose_config("train", TrainConfig, ["data.root=x", "labelling.modality_weights=auto", *words]))


def test_published_recipes_count_modalities_alike():
    for recipe in ("selavi_vggsound", "selavi_kinetics400", "selavi_kinetics_sound", "selavi_ave"):
        config = compose_config("train", TrainConfig, [f"experiment={recipe}", "data.root=x"])
        assert config.labelling.modality_weights == ["equal"]
        assert config.labelling.given_weights() == {}
