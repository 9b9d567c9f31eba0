"""`python -m experiments localisation`: its arms, own boxes with true classes, and pictures of two objects."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avssl.config import TrainConfig
from avssl.config.check_given import check_given
from avssl.config.compose import compose_config
from avssl.train.check_options import check
from avssl.videos.box_annotations import read_boxes
from experiments.localisation import ARMS, train_words, with_true_classes
from experiments.localisation_page import two_objects


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_can_be_trained(name):
    words = ["data.root=x", *train_words(name, 640, "bfloat16")]
    config = compose_config("train", TrainConfig, words)
    check(config)
    check_given([config], words)


def test_own_boxes_get_the_true_class_of_what_sounds_and_silent_objects_that_of_the_other(tmp_path):
    run = tmp_path / "run"
    (run / "locate").mkdir(parents=True)
    true = [("a", 1, 3), ("a", 0, 5), ("b", 1, 7), ("b", 0, 3)]
    rows = [f"test/{path}.mp4,{time},{sounding},0.1,0.1,0.2,0.2,digit_{digit}"
            for path, sounding, digit in true for time in (0.4, 0.5)]  # fmt: skip
    (tmp_path / "boxes.csv").write_text("\n".join(["path,time,sounding,x0,y0,x1,y1,class", *rows]) + "\n")
    corners = {name: [x, x + 0.1, x] for name, x in (("x0", 0.1), ("y0", 0.2), ("x1", 0.5), ("y1", 0.6))}
    boxes = pa.table({
        "path": ["test/b.mp4", "test/a.mp4", "test/b.mp4"], "time": [1.5, 0.5, 0.5], **corners, "cluster": [0, 1, 0],
    })  # fmt: skip
    pq.write_table(boxes, run / "locate" / "boxes.parquet")
    pq.write_table(boxes.slice(2), run / "locate" / "silent.parquet")
    found = read_boxes(with_true_classes(run, tmp_path)).truth
    assert [(x.path, x.time, x.classes) for x in found] == [
        ("test/a.mp4", 0.5, ["digit_3"]), ("test/b.mp4", 0.5, ["digit_3", "digit_7"]), ("test/b.mp4", 1.5, ["digit_7"]),
    ]  # fmt: skip
    assert found[0].boxes[0].tolist() == pytest.approx([0.2, 0.3, 0.6, 0.7])


def test_two_objects_of_each_arm_and_a_dash_where_they_were_not_measured():
    def located(iiou: float) -> dict:
        controls = {name: {"iiou": 0.0} for name in ("swapped", "centre")}
        return {"located": {"interactive": {"iiou": iiou, "iauc": 0.5, "ciou": 0.75, **controls}}}

    found = {("a", 0): located(0.5), ("a", 1): located(0.7), ("b", 0): located(0.5), ("b", 1): {"located": {}}}
    table = [line.strip("| ").split(" | ") for line in two_objects(found, ["a", "b"], [0, 1]) if line.startswith("|")]
    assert table[0][:3] == ["run", "IIoU", "IAUC"]
    assert [cell.split(" ± ")[0] for cell in table[2]] == ["a", "60.0", "50.0", "75.0", "0.0", "0.0"]
    assert table[3] == ["b", *["–"] * 5]
