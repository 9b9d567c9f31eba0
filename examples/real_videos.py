"""From a folder of videos to a labelled data set of named clusters, by `experiment=auto`.

    python examples/real_videos.py                        # on a small sample, which it makes first
    python examples/real_videos.py my_videos work         # on your own videos; outputs go to the folder work
    python examples/real_videos.py my_videos work seed=1  # with any option of `avssl train`

Normally you name clusters on the page that `avssl clusters` writes. Here a program does so: it names each cluster after
the class folder of most of its videos, and merges clusters of the same name. Without classes, it numbers the clusters.
"""

import json
import sys
from collections import Counter
from pathlib import Path

from avssl.cli import main
from avssl.explore.assignments import read_assignments


def avssl(*words: str) -> None:
    """Run a command of avssl. An error ends this program."""
    print(f"\n$ avssl {' '.join(words)}", flush=True)
    if status := main([*words]):
        sys.exit(status)


def name_clusters(run: Path, path: Path) -> dict[str, dict]:
    """Write names.json for the clusters of a run, and return its entries by cluster."""
    found = read_assignments(run / "clusters" / "assignments.parquet")
    head = found.chosen_head or 0
    votes: dict[int, Counter] = {}
    for label, class_name in zip(found.label[:, head].tolist(), found.classes, strict=True):
        if label >= 0:
            votes.setdefault(label, Counter())[class_name or f"group {label}"] += 1
    entries: dict[str, dict] = {}
    first: dict[str, int] = {}
    for cluster, counts in sorted(votes.items()):
        name = counts.most_common(1)[0][0]
        entries[str(cluster)] = {"into": first[name]} if name in first else {"name": name}
        first.setdefault(name, cluster)
    names = {"avssl_names": 1, "run": str(run), "step": found.step, "head": head, "clusters": entries}
    path.write_text(json.dumps(names, indent=2))
    return entries


def example(videos: str = "", work: str = "example", *options: str) -> Path:
    """Videos → index → run → clusters → names → labelled data set; returns the data set's folder."""
    folder = Path(work)
    if not videos:
        videos = str(folder / "sample")
        if not Path(videos).is_dir():
            avssl("sample", f"out={videos}", "classes=3", "train=12", "test=4")
    data = [f"data.root={videos}", f"data.index={folder / 'index'}"]
    run = folder / "run"
    avssl("index", *data)
    avssl("train", *data, "experiment=auto", f"out={run}", *options)
    avssl("clusters", f"run={run}")
    names = folder / "names.json"
    name_clusters(run, names)
    avssl("clusters", f"run={run}", f"names={names}")
    return run / "clusters" / "labelled"


if __name__ == "__main__":
    print(f"\nlabelled data set: {example(*sys.argv[1:])}")
