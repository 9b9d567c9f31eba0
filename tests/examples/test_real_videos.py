"""The example in examples/, executed: from videos to a data set of named clusters, without an option of the user."""

import csv
import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from avssl.config.run_folder import read_config

EXAMPLE = Path(__file__).parents[2] / "examples" / "real_videos.py"


def test_from_videos_to_named_clusters(tiny_sample, tmp_path, capsys):
    spec = spec_from_file_location("real_videos", EXAMPLE)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    # less than it would take by itself, so that the test is short
    short = ["optim.clips=4000", "labelling.passes=8", "data.augmented=0", "clip.crop=96", "clip.short_side_min=96",
             "clip.short_side_max=112", "clip.short_side_eval=96", "device=cpu", "workers=0", "threads=1"]  # fmt: skip
    folder = module.example(str(tiny_sample), str(tmp_path), *short)
    out = capsys.readouterr().out
    assert "efficientnet_lite0 (ImageNet, frozen)" in out
    assert read_config(tmp_path / "run").auto[0] == "experiment=frozen"
    names = json.loads((tmp_path / "names.json").read_text())["clusters"]
    assert {entry["name"] for entry in names.values() if "name" in entry} <= {"digit_0", "digit_1", "digit_2"}
    with (folder / "labelled.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 48
    right = sum(row["name"] == row["class"] for row in rows)
    assert right >= 40  # a third would be 16; digits with a sound of their own are easy
    assert (folder / "videos" / "test").is_dir()
