"""What is known of a data set: the `card` of its file in `data/`, beside the options that the file sets."""

from dataclasses import dataclass, field


@dataclass
class SplitFile:
    """One official split file, or several of one pattern."""

    names: list[str] = field(default_factory=list)
    """The names it goes by, the official one first; `{fold}`, and `{class}` for one file a class, are filled in."""
    split: str = ""
    """Whose split it lists; empty where its lines say."""
    optional: bool = False
    """Data without it is indexed all the same."""


@dataclass
class DatasetCard:
    """A data set as published: where it comes from, its split files, its size."""

    title: str = ""
    url: str = ""
    """Where the videos, or the list of them, come from."""
    annotations_url: str = ""
    """Where the split files come from."""
    licence: str = ""
    files: list[SplitFile] = field(default_factory=list)
    layouts: list[str] = field(default_factory=list)
    """How the files are found to lie and to be called; all are read."""
    classes: int | None = None
    class_names: list[str] = field(default_factory=list)
    """Empty where the split files are what tells them."""
    counts: list[dict[str, int]] = field(default_factory=list)
    """Published videos by split, one entry a fold; `all` where there are no splits."""
    about: bool = False
    """The counts are rounded."""
    notes: str = ""

    def expected(self, fold: int) -> dict[str, int]:
        """Published videos by split of a fold; empty where they are not known."""
        if len(self.counts) > 1:
            return self.counts[fold - 1] if fold <= len(self.counts) else {}
        return self.counts[0] if self.counts else {}

    def file_names(self, fold: int) -> list[tuple[SplitFile, list[str]]]:
        """Every split file with the names that it may go by, the official one first."""
        found = []
        for file in self.files:
            for class_name in self.class_names if "{class}" in "".join(file.names) else [""]:
                names = [n.replace("{fold}", str(fold)).replace("{class}", class_name) for n in file.names]
                found.append((file, names))
        return found
