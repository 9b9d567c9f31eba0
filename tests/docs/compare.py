"""Is the output of a command what the page shows? Numbers, spaces and line ends may differ; `…` is anything."""

import re

_NUMBER = re.compile(r"(?<![\d.])[-−+]?\d[\d,]*(?:[.:]\d+)*(?:e[-+]?\d+)?")
_RULE = re.compile(r"[─━═—-]{3,}")
ANYTHING = "…"


def plain(text: str) -> str:
    """Text with every number as 0, every rule as one dash, and all spaces and line ends as one space."""
    return " ".join(_NUMBER.sub("0", _RULE.sub("─", text)).split())


def matches(shown: str, printed: str) -> bool:
    """Does `shown`, the text of a page, stand for `printed`?"""
    parts = [re.escape(part.strip()) for part in plain(shown).split(ANYTHING)]
    return re.fullmatch(r"\s*.*?\s*".join(parts), plain(printed), re.DOTALL) is not None


def refreshed(shown: str, printed: str) -> str:
    """`shown`, which stands for `printed`, with the figures of `printed` in every line that has no `…`."""
    left, lines = printed.splitlines(), []
    for line in shown.splitlines():
        same = next((n for n, other in enumerate(left) if plain(other) == plain(line)), None)
        if ANYTHING in line or same is None:
            lines.append(line)
        else:
            lines.append(left[same])
            del left[: same + 1]
    return "\n".join(lines)
