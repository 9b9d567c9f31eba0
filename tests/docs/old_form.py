"""Words of the short form in the long one, for a command line that has no positional word yet.

Remove this file, and the calls of `long_form`, once `avssl index my_videos` is understood.
"""

from dataclasses import fields

from avssl.commands import Command

COMING = ("open", "watch", "completion")
"""Commands that are about to come."""

SHORT = any(f.name == "positional" for f in fields(Command))
"""Does the command line understand the short form?"""

FOLDER = ("index", "doctor", "prepare", "shard", "features", "plan", "train")
RUN = ("clusters", "evaluate", "export", "open", "watch")
NAME = ("models show", "models fetch", "models convert")


def long_form(words: list[str]) -> list[str]:
    """`["index", "my_videos"]` as `["index", "data.root=my_videos"]`, and the like; other words stay."""
    if SHORT:
        return words
    name, rest = words[0], words[1:]
    if name == "models" and rest:
        name, rest = f"{name} {rest[0]}", rest[1:]
    rest = [w.removeprefix("--") if w.startswith("--") and "=" in w else w for w in rest]
    if rest and "=" not in rest[0] and not rest[0].startswith("-"):
        first = rest[0]
        key = (
            "data.root" if name in FOLDER else "run" if name in RUN else "name" if name in NAME
            else {"sample": "out", "label": "videos", "runs": "folder"}.get(name, "")
        )  # fmt: skip
        if name == "summary":
            rest = [f"runs=[{','.join(rest)}]"]
        elif key:
            rest = [f"{key}={_run(first) if key == 'run' else first}", *rest[1:]]
    if name == "train" and not any(w.startswith(("experiment=", "clip=", "task=")) for w in rest):
        rest += ["experiment=auto"]
    rest = [f"run={_run(w[4:])}" if w.startswith("run=") else w for w in rest]
    rest = [f"{k}=[{v}]" if "," in v and "[" not in v and k != "seed" else w
            for w in rest for k, _, v in [w.partition("=")]]  # fmt: skip
    return [*name.split(), *rest]


def _run(name: str) -> str:
    return name if "/" in name or "." in name else f"runs/{name}_both_seed0"
