"""The model card of a run: `model_card.md` in its folder, for those who get the model without its history.

It is made of the run folder's own files, so that it can be written again at any time. It names no folders of this
machine. This file does not import torch.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any

from ..config import ClipConfig, TrainConfig
from ..config.run_folder import INIT, NON_COMMERCIAL, licences, read_config
from ..core.atomic import write_text
from ..core.errors import UserError
from ..core.printable import one_line
from ..core.report import markdown_table
from ..core.screen import warn
from ..core.untrusted import is_count, is_number
from ..videos.index_options import read_note
from ..videos.splits import ALL, find_split
from .sign_of_life import read
from .status import figures
from .summary import figures_of, rows_of

CARD = "model_card.md"


def update_card(run: Path) -> None:
    """Write the card of a run again. If that fails, a warning is printed: the results are not affected."""
    try:
        write_text(run / CARD, model_card(run))
    except (OSError, UserError) as error:
        warn(f"{run / CARD} could not be written: {error}")


def model_card(run: Path) -> str:
    """The card of a run, as Markdown.

    Raises:
        UserError: the folder is not a run, or its config is damaged.
    """
    config = read_config(run)
    name = run.resolve().name
    parts = [f"# {_plain(name)}\n\n{_summary(config)}", _loading(config, name), _about(config, run), _figures(run)]
    return "\n\n".join([*parts, _limits(config, run), _versions(run)]) + "\n"


NAMES = {
    "contrast": "contrast (GDT)", "labelling": "self-labelling (SeLaVi)", "prediction": "predicted transformations",
    "distillation": "self-distillation", "jepa": "joint-embedding prediction",
}  # fmt: skip
"""The objectives in words."""


def _summary(config: TrainConfig) -> str:
    names = [NAMES.get(name, name) for name in config.objectives]
    encoders = " and ".join(f"{'an' if name[0] in 'aeiou' else 'a'} {name} encoder" for name in _modalities(config))
    what = encoders[0].upper() + encoders[1:] + ", and clusters of videos" * config.has_clusters
    return f"{what}, learned by {_joined(names)}, without labels. Trained with avssl."


def _joined(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def _loading(config: TrainConfig, name: str) -> str:
    call = 'model.label("video.mp4")' if config.has_clusters else 'model.features("video.mp4")'
    quoted = '"path/to/' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    load = f"model = avssl.load({quoted})  # the path of this folder"
    return f"## Use\n\n```python\nimport avssl\n\n{load}\nprint({call})\n```"


def _about(config: TrainConfig, run: Path) -> str:
    rows = [["data", _data(config)]]
    rows += [[f"{name} encoder", _encoder(config, run, name)] for name in _modalities(config)]
    rows.append(["clips", _clips(config.clip, _modalities(config))])
    if "labelling" in config.objectives:
        labelling = config.labelling
        heads = f"{labelling.heads} head{'s' * (labelling.heads != 1)} of {labelling.clusters:,} clusters"
        rows.append(["labels", f"{heads}, {labelling.passes} labelling passes ({labelling.method}, {labelling.mode})"])
    if "distillation" in config.objectives:
        options = config.distillation
        teacher = "a momentum teacher" if options.teacher else "no teacher"
        rows.append(["prototypes", f"{options.prototypes:,}, targets by {options.target}, {teacher}"])
    if "contrast" in config.objectives:
        axes = ", ".join(f"{axis} {role}" for axis, role in vars(config.contrast.axes).items() if role != "off")
        rows.append(["contrast", f"{config.contrast.compare}: {axes}"])
    rows.append(["training", _training(config, run)])
    return "## Model\n\n" + "\n".join(markdown_table(["what", "value"], [[x, _plain(text)] for x, text in rows]))


def _data(config: TrainConfig) -> str:
    data = config.data
    with suppress(OSError, UserError):
        videos = read_note(data.index).get("videos")
        counts = videos if isinstance(videos, dict) else {}
        shown = [f"{count:,} videos in {split}" for split, count in counts.items() if is_count(count)]
        if shown:
            split = find_split([*counts], data.train_split)
            if [*counts] == [ALL]:
                return f"{data.name}: {counts[ALL]:,} videos, all of them for training"
            return f"{data.name}: {', '.join(shown)}{f'; trained on the split {split}' if split else ''}"
    return data.name


def _encoder(config: TrainConfig, run: Path, modality: str) -> str:
    """The encoder, where its weights came from, and their licence."""
    parts = [without_folders(getattr(config.model, modality))]
    entries: Any = read(run / INIT).get("encoders")
    entry = entries.get(modality) if isinstance(entries, dict) else None
    if isinstance(entry, dict):
        parts.append(f"started from {without_folders(str(entry.get('source')))}")
        parts.append(f"licence of these weights: {licences(run).get(modality, 'unknown')}")
    elif parts[0] != "statistics":
        parts.append("started from random weights")
    if modality in config.model.freeze and parts[0] != "statistics":
        parts.append("not trained further")
    return "; ".join(parts)


def _clips(clip: ClipConfig, modalities: list[str]) -> str:
    parts = []
    if "video" in modalities:
        parts.append(f"{clip.frames} frames at {clip.fps:g} per second, {clip.crop} × {clip.crop} pixels")
    if "audio" in modalities:
        parts.append(
            f"{clip.audio_seconds:g} s of audio at {clip.audio_rate:,} Hz, {clip.mels} {clip.spectrogram} bands of "
            f"{clip.window_ms:g} ms every {clip.hop_ms:g} ms"
        )
    return "; ".join(parts)


def _training(config: TrainConfig, run: Path) -> str:
    status = read(run / "status.json")
    step, total, state = (status.get(key) for key in ("step", "total", "state"))
    parts = [f"{step:,} of {total:,} steps"] if is_count(step) and is_count(total) else []
    parts += [f"of {config.optim.batch * config.optim.accumulate} videos per process"]
    parts += [str(state)] if state != "finished" else []
    loss = figures(run)[0]
    ending = "" if loss is None or not is_number(loss) else f"; last loss {loss:.3f}"
    return f"{', '.join(parts)}; {config.optim.optimizer}, seed {config.seed}{ending}"


def _figures(run: Path) -> str:
    rows = [*_of_clusters(run), *_of_evaluation(run)]
    if not rows:
        return "## Figures\n\nNone yet: `avssl clusters` and `avssl evaluate` add them."
    return "## Figures\n\n" + "\n".join(markdown_table(["measure", "split", "value"], rows))


def _of_clusters(run: Path) -> Iterator[list[str]]:
    path = run / "clusters" / "clustering.json"
    result: Any = read(path).get("result")
    if not isinstance(result, dict):
        return
    split = _plain(str(result.get("split")))
    used, clusters = result.get("used_clusters"), result.get("clusters")
    if is_count(used) and is_count(clusters):
        yield ["clusters used", split, f"{used} of {clusters}"]
    texts = {
        "nmi": "NMI of labels and classes", "ami": "AMI", "accuracy": "accuracy, best one-to-one matching",
        "raw_kmeans_nmi": "NMI of k-means on raw inputs", "agreement": "video and audio give the same label",
        "mean_confidence": "mean confidence",
    }  # fmt: skip
    for key, text in texts.items():
        value: Any = result.get(key)
        if is_number(value):
            yield [text, split, f"{100 * value:.1f} %"]


def _of_evaluation(run: Path) -> Iterator[list[str]]:
    path = run / "evaluate" / "evaluate.json"
    content = read(path)
    with suppress(UserError), figures_of(path):
        rows = rows_of(content) if content.get("columns") else {}
        split = _plain(str((content.get("splits") or {}).get("test", "test")))
        for name, value in rows.items():
            yield [_plain(name), split, f"{100 * value:.1f} %"]


def _limits(config: TrainConfig, run: Path) -> str:
    lines = [
        f"It has seen the videos of {_plain(config.data.name)} only; on others, measure it first.",
        "Figures are of the split that the table names. Where they compare with classes, the classes were not used in "
        "training.",
    ]
    if config.has_clusters:
        lines.insert(1, "A cluster is a group that the model found, not a class. Every video gets one, even a video "
                        "unlike all others. `avssl label` marks such videos.")  # fmt: skip
    for modality, licence in licences(run).items():
        if NON_COMMERCIAL.search(licence):
            lines.append(
                f"Not for commercial use: the {modality} encoder started from weights under {_plain(licence)}."
            )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _versions(run: Path) -> str:
    versions = read(run / "versions.json")
    packages = versions.get("packages")
    shown = {"avssl": versions.get("avssl"), "Python": versions.get("python")}
    shown |= packages if isinstance(packages, dict) else {}
    return "## Versions\n\n" + ", ".join(f"{_plain(str(k))} {_plain(str(x))}" for k, x in shown.items() if x)


def _modalities(config: TrainConfig) -> list[str]:
    return [name for name in ("video", "audio") if name in config.modalities]


def without_folders(text: str) -> str:
    """A text without the folders of absolute paths, which are nobody else's business: `onnx:/home/me/net.onnx` is
    `onnx:net.onnx`."""
    before, colon, path = text.rpartition(":")
    if path.startswith(("/", "~")):
        return before + colon + PurePath(path).name
    return re.sub(r"(?<![^\s(:])[/~][^\s,;)]*", lambda match: PurePath(match[0]).name, text)


def _plain(text: str) -> str:
    """A text from files, on one line and without Markdown or HTML of its own; tables escape their `|` themselves."""
    return re.sub(r"([\\`*\[\]<>])", r"\\\1", one_line(text)[:500])
