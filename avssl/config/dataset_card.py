"""The description of a data set: the section `card` of its file in `data/`, beside the options that the file sets."""

from dataclasses import dataclass, field


@dataclass
class SplitFile:
    """One official split file, or several that share a pattern."""

    names: list[str] = field(default_factory=list)
    """Possible file names, the official one first. `{fold}` is filled in, and `{class}` if each class has a file."""
    split: str = ""
    """The split that the file lists; empty if its lines name the split."""
    optional: bool = False
    """Whether the data set can be indexed without this file."""


@dataclass
class DatasetCard:
    """A data set as published: its source, its split files, its size."""

    title: str = ""
    url: str = ""
    """Source of the videos, or of their list."""
    annotations_url: str = ""
    """Source of the split files."""
    licence: str = ""
    files: list[SplitFile] = field(default_factory=list)
    layouts: list[str] = field(default_factory=list)
    """Layouts of folders and file names in which the data set is distributed; all can be read."""
    classes: int | None = None
    class_names: list[str] = field(default_factory=list)
    """The names of the classes; empty if the split files name them."""
    counts: list[dict[str, int]] = field(default_factory=list)
    """Number of published videos per split, one entry per fold; the key `all` if there are no splits."""
    about: bool = False
    """Whether the counts are rounded."""
    notes: str = ""

    def expected(self, fold: int) -> dict[str, int]:
        """Number of published videos per split of a fold; empty if it is unknown."""
        if len(self.counts) > 1:
            return self.counts[fold - 1] if fold <= len(self.counts) else {}
        return self.counts[0] if self.counts else {}

    def file_names(self, fold: int) -> list[tuple[SplitFile, list[str]]]:
        """Every split file with its possible names, the official one first."""
        files = []
        for file in self.files:
            for class_name in self.class_names if "{class}" in "".join(file.names) else [""]:
                names = [n.replace("{fold}", str(fold)).replace("{class}", class_name) for n in file.names]
                files.append((file, names))
        return files
