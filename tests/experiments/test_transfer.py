"""The experiment of a start: its halves of the sample, and its table."""

from avssl.videos.index import read_index
from experiments.options import TransferConfig
from experiments.transfer import ARMS, SCRATCH, lines, make_halves


def test_the_halves_have_no_digit_in_common(tmp_path):
    config = TransferConfig(train=3, few=2, test=2)
    halves = make_halves(config, tmp_path, 0)
    for data, digits, most in zip(halves, (range(5), range(5, 10)), (3, 2), strict=True):
        for split, number in (("train", most), ("test", 2)):
            classes = sorted(read_index(data.index, split)["class"].to_pylist())
            assert classes == [f"digit_{digit}" for digit in digits for _ in range(number)]


def test_the_table_has_differences_and_verdicts():
    seeds = [20, 21, 22]
    scores = {(arm, seed): 0.5 + 0.01 * seed / 20 for arm in ARMS for seed in seeds}
    scores |= {("started", seed): 0.9 + 0.002 * seed / 20 for seed in seeds}
    text = "\n".join(lines(scores, seeds, TransferConfig()))
    started, frozen, _ = [line for line in text.splitlines() if line.startswith("| started")][-3:]
    assert "+39.2" in started
    assert started.endswith("holds |")
    assert "+0.0" in frozen
    assert frozen.endswith("undecided |")
    assert f"| {SCRATCH} | 51.0 |" in text
