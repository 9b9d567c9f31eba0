"""`avssl detect`: it trains, resumes exactly, finds objects in pictures and silent videos, and loses no file."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from avssl.cli import main
from avssl.config import DetectConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.config.run_folder import write_config
from avssl.core.checkpoint_file import digest
from avssl.core.errors import UserError
from avssl.core.out_folder import folder_lock
from avssl.locate import detect, train_detector
from avssl.locate.check_detect import check_detect
from avssl.locate.detections import Found
from avssl.locate.detector import KINDS, Detector, build, load_detector, save_detector, working_side
from avssl.locate.detector_onnx import write_onnx
from avssl.locate.detector_truth import measure, moments_of
from avssl.locate.frame_reader import FrameReader
from avssl.locate.training_frames import SCHEMA, SILENT, TrainingFrames
from avssl.videos.box_annotations import Annotations, TrueBoxes
from avssl.videos.index import read_index
from avssl.videos.storage import Folder

QUICK = ["device=cpu", "threads=1", "workers=0", "steps=2", "batch=2"]
ABOUT = {"run": "runs/a", "step": 3, "model": "0123456789abcdef", "clusters": 4, "chosen_head": 0}


@pytest.fixture(scope="module")
def run(indexed, tmp_path_factory) -> Path:
    """A run folder as far as training a detector needs it, with located boxes that are the true ones."""
    out = tmp_path_factory.mktemp("detect") / "run"
    out.mkdir()
    write_config(compose_config("train", TrainConfig, [*indexed, "experiment=tiny", f"out={out}"]))
    rows = []
    for split in ("train", "test"):
        for path in read_index(indexed[1].removeprefix("data.index="), split)["path"].to_pylist():
            rows += [
                (path, split, t, 0.2, 0.2, 0.8, 0.9, int(path.split("digit_")[1][0]), 0.9, 0.7) for t in (0.3, 0.6)
            ]
    names = [*SCHEMA.names, "score"]
    types = [*SCHEMA.types, pa.float32()]
    columns = {n: pa.array(x, t) for n, t, x in zip(names, types, zip(*rows, strict=True), strict=True)}
    (out / "locate").mkdir()
    table = pa.table(columns).replace_schema_metadata({"avssl": json.dumps(ABOUT)})
    pq.write_table(table, out / "locate" / "boxes.parquet")
    return out


@pytest.fixture(autouse=True)
def _small(monkeypatch) -> None:
    monkeypatch.setattr("avssl.locate.detector.ENLARGED", 64)
    monkeypatch.setattr("avssl.locate.detect.check_run", lambda *_: None)


@pytest.fixture(scope="module")
def trained(run) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avssl.locate.detector.ENLARGED", 64)
        patch.setattr("avssl.locate.detect.check_run", lambda *_: None)
        assert main(["detect", f"run={run}", *QUICK]) == 0
    return run / "detector"


@pytest.fixture
def odd(tiny_sample, tmp_path) -> Path:
    """A folder with a silent video, two pictures, a broken video, a broken picture, an empty file, and a text."""
    folder = tmp_path / "odd"
    folder.mkdir()
    good = next((tiny_sample / "test").rglob("*.mp4"))
    with av.open(str(good)) as source, av.open(str(folder / "mute.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 4), np.uint8)
    Image.fromarray(noise).save(folder / "alpha.png")
    Image.fromarray(noise[..., 0]).save(folder / "grey.jpg")
    Image.new("RGB", (300, 1)).save(folder / "line.png")
    (folder / "broken.mp4").write_bytes(b"\0" * 100)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n")
    (folder / "empty.jpg").touch()
    (folder / "notes.txt").write_text("neither")
    return folder


def test_it_trains_on_located_boxes_and_repeating_it_trains_nothing(trained, run, capsys, monkeypatch):
    detector = load_detector(trained / "detector.pt")
    assert (detector.categories, detector.titles[0], detector.side) == ([0, 1, 2], "cluster_000", 64)
    assert detector.about == ABOUT
    assert not (trained / "training.ckpt").exists()
    assert json.loads((trained / "training.jsonl").read_text())["step"] == 2
    figures = json.loads((trained / "detect.json").read_text())
    assert (figures["videos"], figures["frames"]) == (36, 72)
    assert figures["measures"]["class_ap"].keys() == {"0.3", "0.5"}
    monkeypatch.setattr(detect, "train", None)
    assert main(["detect", f"run={run}", *QUICK, "json=true"]) == 0
    assert json.loads(capsys.readouterr().out)["detector_file"] == str(trained / "detector.pt")
    assert main(["detect", f"run={run}", *QUICK, "lr=0.5"]) == 2
    assert "contains a detector with lr=0.001, not 0.5" in capsys.readouterr().err
    rows = pq.read_table(run / "locate" / "boxes.parquet")
    pq.write_table(rows, out := run.parent / "copy.parquet", row_group_size=7, compression="zstd")
    assert out.read_bytes() != (run / "locate" / "boxes.parquet").read_bytes()
    assert main(["detect", f"run={run}", *QUICK, f"boxes={out}"]) == 0  # the same boxes
    capsys.readouterr()
    x0 = rows["x0"].to_numpy().copy()
    x0[3] += 0.01
    pq.write_table(rows.set_column(rows.column_names.index("x0"), "x0", pa.array(x0)), out)
    assert main(["detect", f"run={run}", *QUICK, f"boxes={out}"]) == 2
    assert "that was trained on other boxes than" in capsys.readouterr().err


def test_silent_objects_beside_the_boxes_are_trained_on_if_they_are_of_the_same_model(run, tmp_path, capsys):
    folder = tmp_path / "located"
    shutil.copytree(run / "locate", folder)
    rows = pq.read_table(folder / "boxes.parquet")
    silent = rows.select(SILENT.names).filter(pc.equal(rows["split"], "train")).slice(0, 5)
    for name, value in (("x0", 0.05), ("x1", 0.15)):
        silent = silent.set_column(silent.column_names.index(name), name, pa.array([value] * 5, pa.float32()))
    pq.write_table(silent, folder / "silent.parquet")
    words = [f"run={run}", f"boxes={folder}/boxes.parquet", *QUICK]
    assert main(["detect", *words, f"out={tmp_path}/with"]) == 0
    assert json.loads((tmp_path / "with" / "detect.json").read_text())["boxes"] == 72 + 5
    other = silent.replace_schema_metadata({"avssl": json.dumps({**ABOUT, "model": "another"})})
    pq.write_table(other, folder / "silent.parquet")
    assert main(["detect", *words, f"out={tmp_path}/without"]) == 0
    assert json.loads((tmp_path / "without" / "detect.json").read_text())["boxes"] == 72
    capsys.readouterr()
    assert main(["detect", *words, f"out={tmp_path}/with"]) == 2
    assert "that was trained on other boxes than" in capsys.readouterr().err
    (folder / "silent.parquet").write_text("no table")
    assert main(["detect", *words, f"out={tmp_path}/damaged"]) == 2
    assert "silent.parquet cannot be read" in capsys.readouterr().err


def test_boxes_of_other_splits_are_told_before_the_libraries_are_loaded(run, tmp_path):
    rows = pq.read_table(run / "locate" / "boxes.parquet")
    pq.write_table(rows.filter(pc.equal(rows["split"], "test")), tmp_path / "boxes.parquet")
    config = compose_config(
        "detect", DetectConfig, [f"run={run}", f"boxes={tmp_path}/boxes.parquet", f"out={tmp_path}/d"]
    )
    with pytest.raises(UserError, match="no box was located in the split train"):
        check_detect(config)


def test_a_command_that_was_killed_after_the_training_is_measured_when_it_is_repeated(trained, run, monkeypatch):
    figures = trained / "detect.json"
    before, known = figures.read_text(), json.loads(figures.read_text())
    measures = known.pop("measures")
    figures.write_text(json.dumps(known))
    monkeypatch.setattr(detect, "train", None)
    try:
        assert main(["detect", f"run={run}", *QUICK]) == 0
        assert json.loads(figures.read_text())["measures"] == measures
    finally:
        figures.write_text(before)


def test_a_kill_as_soon_as_the_detector_is_written_loses_no_figure(trained, run, tmp_path, monkeypatch):
    real = detect.save_detector

    def killed(path, detector):
        real(path, detector)
        raise KeyboardInterrupt

    out = tmp_path / "out"
    monkeypatch.setattr(detect, "save_detector", killed)
    assert main(["detect", f"run={run}", *QUICK, f"out={out}"]) == 130
    (out / "training.ckpt").touch()
    monkeypatch.setattr(detect, "train", None)
    assert main(["detect", f"run={run}", *QUICK, f"out={out}"]) == 0
    assert (out / "detect.json").read_bytes() == (trained / "detect.json").read_bytes()
    assert not (out / "training.ckpt").exists()


def test_true_boxes_of_other_videos_are_told_before_the_training(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(detect, "train", None)
    (tmp_path / "true.csv").write_text("path,time,x0,y0,x1,y1\nno.mp4,0.1,0,0,1,1\n")
    assert main(["detect", f"run={run}", *QUICK, f"truth={tmp_path}/true.csv", f"out={tmp_path}/new"]) == 2
    assert "none of the true boxes belongs to a video of the index" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_it_finds_objects_in_pictures_and_silent_videos_and_loses_no_file(trained, run, odd, capsys, tmp_path):
    names = {"avssl_names": 1, "model": ABOUT["model"], "step": 3, "head": 0,
             "clusters": {"0": {"name": "drum ☃"}, "1": {"mark": "reject"}, "2": {"into": 0}}}  # fmt: skip
    (tmp_path / "names.json").write_text(json.dumps(names))
    words = [f"run={run}", f"videos={odd}", f"names={tmp_path}/names.json", "min_score=0.001", *QUICK]
    assert main(["detect", *words]) == 0
    out = capsys.readouterr().out
    assert "left out: 4 files that cannot be read" in out
    folder = trained / "detections" / "odd"
    assert [line.split("\t")[0] for line in (folder / "left_out.txt").read_text().splitlines()] == [
        "broken.mp4", "broken.png", "empty.jpg", "line.png",
    ]  # fmt: skip
    rows = pq.read_table(folder / "detections.parquet").to_pylist()
    coco = json.loads((folder / "detections.coco.json").read_text())
    images = {x["id"]: x for x in coco["images"]}
    assert {x["file_name"].split("#")[0] for x in images.values()} == {"mute.mp4", "alpha.png", "grey.jpg"}
    assert sum("video" in x for x in images.values()) == 4  # evenly spaced frames
    assert len(coco["annotations"]) == len(rows)
    assert [(c["id"], c["name"]) for c in coco["categories"]] == [(0, "drum ☃")]
    assert {row["cluster"] for row in rows} <= {0}
    for entry, row in zip(coco["annotations"], rows, strict=True):
        image = images[entry["image_id"]]
        x, y, w, h = entry["bbox"]
        assert x >= 0
        assert x + w <= image["width"] + 0.01
        assert y + h <= image["height"] + 0.01
        assert abs(row["x0"] * image["width"] - x) < 0.01
        assert row["path"] == image["file_name"].split("#")[0]
    assert (folder / "pictures.jpg").exists() == bool(rows)

    with folder_lock(folder):
        assert main(["detect", *words]) == 2
    assert "another command is writing to" in capsys.readouterr().err

    (tmp_path / "another").mkdir()
    shutil.copytree(odd, other := tmp_path / "another" / "odd")
    before = (folder / "detections.parquet").read_bytes()
    assert main(["detect", f"run={run}", f"videos={other}", *QUICK]) == 2
    said = f"contains the objects of {odd}: rename that folder, or train into another with out="
    assert said in capsys.readouterr().err
    assert (folder / "detections.parquet").read_bytes() == before


def test_wrong_input_is_one_line(trained, run, odd, tmp_path, capsys):
    odd = odd.rename(tmp_path / "pictures")  # no folder of another test has this name
    (tmp_path / "none").mkdir()
    other = tmp_path / "run"
    shutil.copytree(run, other, ignore=shutil.ignore_patterns("detector", "locate"))
    names = {"avssl_names": 1, "model": "another", "step": 3, "head": 0, "clusters": {}}
    (tmp_path / "names.json").write_text(json.dumps(names))
    damaged = tmp_path / "damaged"
    shutil.copytree(trained, damaged)
    (damaged / "detector.pt").write_bytes(b"PK")
    wrong = [
        ([f"run={other}"], "does not exist: run avssl locate"),
        ([f"run={run}", f"videos={odd}/notes.txt"], "is neither a picture"),
        ([f"run={run}", f"videos={tmp_path}/none"], "there are no pictures or videos in"),
        ([f"run={run}", f"videos={odd}", f"names={tmp_path}/names.json"], "another model"),
        ([f"run={run}", f"videos={odd}", f"out={damaged}"], "cannot be read"),
    ]
    for words, message in wrong:
        assert main(["detect", *words, *QUICK]) == 2, words
        error = capsys.readouterr().err.strip()
        assert message in error
        assert len(error.splitlines()) == 1, error


def test_boxes_of_another_model_are_refused(run, monkeypatch):
    monkeypatch.undo()
    model = torch.nn.Linear(2, 2)
    monkeypatch.setattr(detect, "open_source", lambda _: type("S", (), {"model": model, "step": 3}))
    config = compose_config("detect", DetectConfig, [f"run={run}"])
    with pytest.raises(UserError, match=r"has boxes of another model \(runs/a, step 3\)"):
        detect.check_run(config, ABOUT, run / "locate/boxes.parquet")
    detect.check_run(config, {"model": digest(model)[:16]}, run / "locate/boxes.parquet")


def reader_of(tiny_sample: Path, broken: str = "") -> FrameReader:
    """Frames of six videos, one of which may be broken, two moments each."""
    paths = sorted(str(p.relative_to(tiny_sample)) for p in (tiny_sample / "train").rglob("*.mp4"))[:6]
    paths = [broken or paths[0], *paths[1:]]
    boxes = np.tile(np.array([0.1, 0.2, 0.6, 0.8], np.float32), (12, 1))
    frames = TrainingFrames(
        paths, np.arange(7) * 2, np.tile([0.2, 0.5], 6), np.arange(13), boxes, np.arange(12) % 2, [3, 5], ["a", "b"]
    )
    return FrameReader(frames, Folder(tiny_sample), 64, 2, seed=1, flip=True, threads=1)


def test_batches_are_a_function_of_the_step_and_broken_videos_are_replaced(tiny_sample):
    whole = [x for batch in reader_of(tiny_sample, "gone.mp4").batches(0, 9) for x in batch]
    reader = reader_of(tiny_sample, "gone.mp4")
    later = [x for batch in reader.batches(5, 9) for x in batch]
    for one, other in zip(whole[10:], later, strict=True):
        assert (one.pixels == other.pixels).all()
        assert (one.boxes == other.boxes).all()
    assert set(reader.failures) == {"gone.mp4"}
    lefts = {round(float(x.boxes[0, 0])) for x in whole}
    assert lefts == {round(0.1 * 64), round(0.4 * 64)}  # mirrored and not
    assert {int(x.labels[0]) for x in whole} == {1, 2}
    nothing = reader_of(tiny_sample)
    nothing.frames.paths = [f"{i}.mp4" for i in range(6)]
    with pytest.raises(UserError, match=r"20 videos in a row cannot be decoded, such as \d.mp4"):
        next(nothing.batches(0, 1))


class Quick(torch.nn.Module):
    """A stand-in for a detector, whose loss depends on its weights, the pictures, the boxes and random numbers."""

    def __init__(self):
        super().__init__()
        self.layer, self.transform = torch.nn.Linear(3, 1), SimpleNamespace()

    def forward(self, pictures, targets):
        colours = torch.stack([x.mean((1, 2)) for x in pictures])
        boxes = torch.stack([x["boxes"].mean() + x["labels"].sum() for x in targets])
        return {"loss": (self.layer(colours)[:, 0] - boxes * torch.rand(len(boxes))).square().mean()}


def test_a_killed_training_resumes_with_the_same_weights(tiny_sample, tmp_path, monkeypatch):
    monkeypatch.setattr(train_detector, "SAVE_SECONDS", 0.0)
    config = DetectConfig(run="", steps=6, batch=2)

    def trained(out: Path, kill_at: int | None, key: str = "key") -> str:
        out.mkdir(exist_ok=True)
        torch.manual_seed(0)
        detector = Detector(Quick(), KINDS[0], 64, [3, 5], ["a", "b"], {})
        torch.rand(3)
        reader = reader_of(tiny_sample, "gone.mp4")
        batches = reader.batches

        def killed(start: int, stop: int):
            for step, batch in enumerate(batches(start, stop), start):
                if step == kill_at:
                    raise MemoryError
                yield batch

        reader.batches = killed
        train_detector.train(detector, reader, config, torch.device("cpu"), out, key)
        assert set(reader.failures) == {"gone.mp4"}
        return digest(detector.model)

    whole = trained(tmp_path / "whole", None)
    for kill_at in (2, 5):
        with pytest.raises(MemoryError):
            trained(tmp_path / "parts", kill_at)
    assert trained(tmp_path / "parts", None) == whole
    assert (tmp_path / "parts/training.jsonl").read_text() == (tmp_path / "whole/training.jsonl").read_text()
    with pytest.raises(UserError, match="of a training on other boxes or with other options"):
        trained(tmp_path / "parts", None, "another")
    monkeypatch.setattr(Quick, "forward", lambda *_: {"loss": torch.full((), torch.nan, requires_grad=True)})
    with pytest.raises(UserError, match="loss is NaN or infinite at step 6: set a smaller lr, and remove .*nan"):
        trained(tmp_path / "nan", None)


def test_average_precision_counts_true_objects_silent_ones_and_located_boxes(indexed, tiny_sample, monkeypatch):
    rows = read_index(indexed[1].removeprefix("data.index="), "test")
    paths = rows["path"].to_pylist()[:4]
    boxes = np.array([[0.1, 0.1, 0.5, 0.9], [0.5, 0.1, 0.9, 0.9]])
    classes = [["cat", "dog"], ["dog", "cow"], ["cow", "cat"], ["cat", "dog"]]
    truth = [TrueBoxes(p, t, boxes, c, np.array([True, False]))
             for p, c in zip(paths, classes, strict=True) for t in (0.2, 0.4, 0.6, 0.8)]  # fmt: skip
    located = {p: np.array([[0.41, *boxes[0], 0.9], [0.61, 0, 0, 0.1, 0.1, 0.2]]) for p in paths}
    moments = moments_of(Annotations("sample", truth), rows, located)
    assert [m.time for m in moments] == [0.4, 0.6] * 4  # those of the located boxes
    assert len(moments_of(Annotations("sample", truth), rows, {})) == 12
    cluster = {"cat": 2, "dog": 0, "cow": 1}
    answers = iter(moments)

    def perfect(detector, pictures, device):
        return [Found(boxes, np.array([0.9, 0.8]), np.array([cluster[c] for c in next(answers).truth.classes]))
                for _ in pictures]  # fmt: skip

    monkeypatch.setattr("avssl.locate.detector_truth.find_objects", perfect)
    detector = Detector(torch.nn.Identity(), KINDS[0], 64, [4, 6, 9], ["x", "y", "z"], ABOUT)
    figures = measure(detector, moments, Folder(tiny_sample), located, 3, torch.device("cpu"))
    assert figures["ap"] == figures["class_ap"] == figures["class_ap_majority"] == {"0.3": 1.0, "0.5": 1.0}
    assert figures["located_ap"]["0.5"] == pytest.approx(0.25)  # one of two moments, one of two objects
    assert (figures["pictures"], figures["true_boxes"], figures["undecodable"]) == (8, 16, 0)
    assert figures["silent_boxes"] == sum(int((~m.truth.sounding).sum()) for m in moments)
    with pytest.raises(UserError, match="none of the true boxes belongs to a video of the index"):
        moments_of(Annotations("sample", [TrueBoxes("no.mp4", 0.1, boxes)]), rows, {})


def test_a_detector_file_is_checked(tmp_path):
    detector = Detector(build(KINDS[0], 1, 64), KINDS[0], 64, [0], ["object"], {})
    save_detector(tmp_path / "a.pt", detector)
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    for name, value in (("kind", "yolo"), ("side", 10**9), ("categories", [0, 1]), ("titles", [3]), ("version", 9),
                        ("categories", [2**31]), ("about", {"clusters": "4"})):  # fmt: skip
        torch.save({**state, name: value}, tmp_path / "b.pt")
        with pytest.raises(UserError, match=r"b\.pt"):
            load_detector(tmp_path / "b.pt")
    del state["model"]["roi_heads.box_predictor.cls_score.bias"]
    torch.save(state, tmp_path / "b.pt")
    with pytest.raises(UserError, match="do not fit"):
        load_detector(tmp_path / "b.pt")


@pytest.mark.parametrize(("native", "kind", "side"), [
    (64, KINDS[0], 64), (112, KINDS[0], 128), (1080, KINDS[0], 480), (1080, KINDS[1], 800), (16, KINDS[2], 64),
])  # fmt: skip
def test_the_working_size_fits_the_pictures(native, kind, side, monkeypatch):
    monkeypatch.undo()
    enlarged = {64: 128, 112: 224}
    assert working_side(native, kind) == enlarged.get(native, side)


def test_the_onnx_file_gives_the_objects_of_torch_or_is_not_written(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    detector = Detector(build(KINDS[0], 2, 64).eval(), KINDS[0], 64, [0, 1], ["a", "b"], {})
    picture = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    assert write_onnx(detector, picture, tmp_path / "a.onnx") < 1e-3
    monkeypatch.setattr("avssl.locate.detector_onnx.TOLERANCE", -1.0)
    with pytest.raises(UserError, match="differ"):
        write_onnx(detector, picture, tmp_path / "b.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]
