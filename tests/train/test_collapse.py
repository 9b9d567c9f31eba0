"""Collapsed heads: warned of once, again at the end, in metrics.jsonl, and with what to do."""

import json

import pytest

from avssl.config import LabellingConfig
from avssl.selflabel.head_opinions import FEW_CLUSTERS, ONE_CLUSTER, UNRELATED
from avssl.selflabel.labeller import LabellingReport
from avssl.train.collapse import COLLAPSE, CollapseWatch, warn
from avssl.train.log import RunLog
from avssl.train.remedies import label_remedy

LABELLING = LabellingConfig(clusters=10, heads=3, marginal="empirical")


def solved(*collapsed):
    some = [0.5] * 3
    return LabellingReport(some, [1] * 3, some, 0.5, some, some, some, [1.2, 9.0, 9.0], some, some, list(collapsed))


def test_a_head_is_warned_of_once_and_again_at_the_end(tmp_path, capsys):
    log = RunLog(tmp_path, 0, 99)
    watch = CollapseWatch(log, LABELLING, steps_per_epoch=10)
    for step in (0, 20):  # heads that were hardly trained say nothing yet
        watch.check(step, solved(ONE_CLUSTER, "", ""))
    watch.check(60, solved(FEW_CLUSTERS, "", ""))
    watch.check(70, solved(FEW_CLUSTERS, "", UNRELATED))
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == ["warning"] * 2
    assert "head 0 has collapsed at step 60: its videos are spread over 1.2 of 10 clusters" in said[0]
    assert "labelling.marginal_parameter" in said[0]
    assert "optim.lr" in said[1]
    log.close()
    log = RunLog(tmp_path, 80, 99)  # resumed
    watch = CollapseWatch(log, LABELLING, steps_per_epoch=10)
    watch.check(90, solved(FEW_CLUSTERS, "", ""))
    assert capsys.readouterr().out == ""
    watch.end()
    (line,) = capsys.readouterr().out.splitlines()
    assert "of 3 heads, these have collapsed: head 0 (few clusters);" in line
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(x["step"], x["kind"], x["head"], x["way"]) for x in lines] == [
        (60, COLLAPSE, 0, FEW_CLUSTERS), (70, COLLAPSE, 2, UNRELATED)
    ]  # fmt: skip


def test_advice_is_given_once_and_can_be_followed():
    said: list[str] = []
    warn(said.append, {0: ONE_CLUSTER, 1: "", 2: FEW_CLUSTERS, 3: ONE_CLUSTER}, LabellingConfig(heads=4))
    (line,) = said
    assert "heads 0, 3 (one cluster); head 2 (few clusters);" in line
    assert line.count("optim.epochs") == 1
    assert "labelling.clusters" not in label_remedy(ONE_CLUSTER, LabellingConfig(clusters=2))


@pytest.mark.parametrize("kind", [FEW_CLUSTERS, ONE_CLUSTER, UNRELATED])
@pytest.mark.parametrize("words", [{}, {"marginal": "empirical"}, {"method": "kmeans"}])
def test_what_to_do_names_options_that_there_are(kind, words):
    for name in ("labelling.", "optim."):
        for word in label_remedy(kind, LabellingConfig(**words)).replace(",", " ").replace("=", " ").split():
            if word.startswith(name):
                assert word.removeprefix(name) in {
                    *LabellingConfig.__dataclass_fields__, "lr", "warmup_epochs", "epochs", "clips"
                }  # fmt: skip
