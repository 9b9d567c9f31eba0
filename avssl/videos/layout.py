"""What the folders below a root mean: splits, classes, or nothing; with notes on unused folders."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

from ..config import FoldersConfig
from ..core.errors import UserError
from ..core.screen import warn
from .files import File, find_files, is_text, list_files
from .splits import ALL, USUAL, Named, name_splits, own_split, plain_split

__all__ = ["ALL", "File", "Layout", "Video", "find_files", "is_text", "plain", "read_layout", "scan"]

LEVELS = 4
"""Number of levels below the root at which splits are searched for."""

Folders = tuple[str, ...]
"""The folders of a path, from the root down."""


@dataclass(frozen=True)
class Video:
    """A file below the root, `path` relative to it with forward slashes."""

    path: str
    split: str
    class_name: str | None
    size: int
    mtime_ns: int
    stretch: tuple[float, float] | None = None
    """The annotated start and end in the whole video (s), if the file may be the whole video."""


@dataclass
class Layout:
    """The levels of the folders that name split and class, counted from the root; None if no folder does."""

    split_at: int | None = None
    class_at: int | None = None
    splits: dict[str, str] = field(default_factory=dict)
    """The split of each folder name."""
    notes: list[str] = field(default_factory=list)
    """Short notes on folders that are not used, or whose meaning is uncertain."""

    def split(self, folders: Folders) -> str | None:
        """The split of a video; None if it is in no split, but other videos are."""
        if self.split_at is None:
            return ALL
        return self.splits[folders[self.split_at]] if len(folders) > self.split_at else None

    def class_name(self, folders: Folders) -> str | None:
        return folders[self.class_at] if self.class_at is not None and len(folders) > self.class_at else None


class _Videos(Sequence[Video]):
    """The videos among files, made one by one as they are asked for: 10⁸ of them need 4 bytes each, not 300."""

    def __init__(self, files: Sequence[File], layout: Layout, kept: set[str] | None):
        self.files, self.layout, self.kept = files, layout, kept
        self.places = array(
            "I" if len(files) < 1 << 32 else "q",
            (place for place, file in enumerate(files) if self._video(file) is not None),
        )

    def _video(self, file: File) -> Video | None:
        folders = _folders(file.path)
        split, class_name = self.layout.split(folders), self.layout.class_name(folders)
        if split is None or (self.kept is not None and (class_name is None or plain(class_name) not in self.kept)):
            return None
        return Video(file.path, split, class_name, file.size, file.mtime_ns)

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, place: int) -> Video: ...
    @overload
    def __getitem__(self, place: slice) -> list[Video]: ...
    def __getitem__(self, place: int | slice) -> Video | list[Video]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        video = self._video(self.files[self.places[place]])
        assert video is not None
        return video

    def __iter__(self) -> Iterator[Video]:
        return (video for file in self.files if (video := self._video(file)) is not None)


def scan(data: FoldersConfig) -> list[Video]:
    """`list_videos` as a list."""
    return list(list_videos(data))


def list_videos(data: FoldersConfig) -> Sequence[Video]:
    """The videos below `data.root`, sorted by path, with splits and classes from their folders.

    It prints a line about folders that are not used.

    Raises:
        UserError: there are no videos, or the folders do not have the layout.
    """
    files = list_files(data)
    layout = read_layout((file.path for file in files), data.layout)
    if layout.notes:
        warn(f"{data.root}: {'; '.join(layout.notes)}")
    kept = {plain(name) for name in data.keep_classes} if data.keep_classes else None
    videos = _Videos(files, layout, kept)
    if kept is not None and not videos:
        raise UserError(
            f"no folder below {data.root} is named like a class in data.keep_classes (such as {data.keep_classes[0]}): "
            f"give data.annotations, or data.layout=class or data.layout=split_class"
        )
    return videos


def plain(class_name: str) -> str:
    """A class name in a form that is the same in all copies of a data set: lower case, blanks for underscores."""
    return " ".join(class_name.casefold().replace("_", " ").split())


def read_layout(paths: Iterable[str], kind: str = "auto") -> Layout:
    """The layout of these paths.

    With `auto`, splits are the folders of the first level whose names include two of train, val and test and that
    cover at least half of its folders or of the videos, or whose folders all name the same split. Classes are the
    folders of the first other level with two or more folders, if they contain at least half of the videos.

    Args:
        paths: the paths of the videos.
        kind: a value of `data.layout`.

    Raises:
        UserError: the paths do not have the folders that `kind` needs.
    """
    tree = _Tree(paths)
    if kind == "flat":
        return Layout()
    if kind == "class":
        if not tree.names(0):
            raise UserError(
                f"{tree.example} is in no class folder: data.layout=class needs {{class}}/{{video}}; try "
                "data.layout=flat"
            )
        return _notes(tree, Layout(class_at=0))
    if kind == "split_class":
        return _notes(tree, _required_splits(tree))
    for level in range(LEVELS):
        named = tree.named(level)
        if _are_splits(tree, level, named):
            return _notes(tree, _at(tree, level, named))
    layout = Layout(class_at=_class_level(tree, 0))
    if layout.class_at is not None and 2 * tree.under(layout.class_at) < tree.videos:
        layout.class_at = None
    return _overlooked(tree, _notes(tree, layout))


class _Tree:
    """The number of videos in each folder."""

    def __init__(self, paths: Iterable[str]):
        self.counts: Counter[Folders] = Counter()
        self.examples: dict[Folders, str] = {}
        for path in paths:
            folders = _folders(path)
            self.counts[folders] += 1
            self.examples.setdefault(folders, path)
        self.videos = self.counts.total()
        self.example = next(iter(self.examples.values()), "")
        self._names: dict[int, Counter[str]] = {}
        self._named: dict[int, Named] = {}

    def names(self, level: int) -> Counter[str]:
        """Number of videos by the name of their folder at a level."""
        if level not in self._names:
            self._names[level] = Counter()
            for folders, count in self.counts.items():
                if len(folders) > level:
                    self._names[level][folders[level]] += count
        return self._names[level]

    def named(self, level: int) -> Named:
        """The folders at a level whose names are names of splits."""
        if level not in self._named:
            self._named[level] = name_splits(self.names(level))
        return self._named[level]

    def under(self, level: int) -> int:
        """Number of videos with a folder at a level."""
        return self.names(level).total()

    def outside(self, level: int, minimum: int = 0) -> tuple[int, str]:
        """The number of videos without a folder at a level, among those at least `minimum` folders deep, and an
        example."""
        outside = [folders for folders in self.counts if minimum <= len(folders) <= level]
        return sum(self.counts[folders] for folders in outside), self.examples[outside[0]] if outside else ""

    def single(self, level: int) -> bool:
        """Whether every level above has only one folder."""
        return all(len(self.names(above)) == 1 for above in range(level))


def _folders(path: str) -> Folders:
    return tuple(path.split("/")[:-1])


def _are_splits(tree: _Tree, level: int, named: Named) -> bool:
    names = tree.names(level)
    inside = sum(names[name] for name in named.splits)
    if not named.sure or (2 * inside < tree.videos and 2 * len(named.splits) < len(names)):
        return False
    everything = len(named.splits) == len(names)
    if not tree.single(level):  # as {class}/{split}
        return len(named.kinds) > 1 and everything and 2 * inside >= tree.videos
    return len(named.kinds) > 1 or (everything and 2 * inside >= tree.videos)


def _at(tree: _Tree, level: int, named: Named) -> Layout:
    """The layout with splits at a level; folders with other names are further splits."""
    splits = {name: named.splits.get(name) or own_split(name) for name in sorted(tree.names(level))}
    class_at = _class_level(tree, level + 1)
    if class_at is None and tree.names(level + 1):
        class_at = level + 1
    if class_at is None and not tree.single(level):  # {class}/{split}/{video}
        class_at = _class_level(tree, 0)
    return Layout(level, class_at, splits)


def _required_splits(tree: _Tree) -> Layout:
    level = next((at for at in range(LEVELS) if tree.named(at).splits and tree.single(at)), 0)
    names = tree.names(level)
    named = tree.named(level)
    if not names or (len(names) == 1 and not named.splits):
        raise UserError(
            f"{tree.example} is in no split: data.layout=split_class needs {{split}}/{{class}}/{{video}}; try "
            f"data.layout=class or data.layout=flat"
        )
    return _at(tree, level, named)


def _class_level(tree: _Tree, first: int) -> int | None:
    """The first level, from `first` on, with two or more folders."""
    level = first
    while names := tree.names(level):
        if len(names) > 1:
            return level
        level += 1
    return None


def _notes(tree: _Tree, layout: Layout) -> Layout:
    """`layout` with its notes."""
    notes = layout.notes
    if layout.split_at is not None:
        sizes = tree.names(layout.split_at)
        read = [
            f"{folder} as {split} ({_many(sizes[folder], 'video')})"
            for folder, split in layout.splits.items()
            if folder != split or split not in USUAL
        ]
        if read:
            notes.append(f"folders read as splits: {_some(read)}")
        count, example = tree.outside(layout.split_at)
        if count:
            notes.append(f"{_many(count, 'video')} in no split skipped (such as {example})")
    if layout.class_at is not None:
        count, example = tree.outside(layout.class_at, 0 if layout.split_at is None else layout.split_at + 1)
        if count:
            notes.append(f"{_many(count, 'video')} in no class folder (such as {example})")
    used = [at for at in (layout.split_at, layout.class_at) if at is not None]
    unused: list[str] = []
    for level in range(max(map(len, tree.counts), default=0)):
        if level not in used and (len(tree.names(level)) > 1 or (used and level > max(used))):
            unused += sorted({"/".join(folders[: level + 1]) for folders in tree.counts if len(folders) > level})
    if unused:
        notes.append(f"{_many(len(unused), 'folder')} used neither as split nor as class (such as {unused[0]})")
    return layout


def _overlooked(tree: _Tree, layout: Layout) -> Layout:
    """Add a note if folders are named like splits but not read as splits."""
    for level in range(LEVELS):
        named = tree.named(level)
        shown = [name for name in named.splits if len(named.kinds) > 1 or plain_split(name)]
        if shown:
            read = "classes" if layout.class_at == level else "no splits"
            fix = "data.layout=split_class" if tree.single(level) else "folders as {split}/{class}/{video}"
            layout.notes.append(
                f"{_some(sorted(shown))} of {_many(len(tree.names(level)), 'folder')} named like splits, but read as "
                f"{read}: {fix} makes them splits"
            )
            break
    return layout


def _some(items: list[str]) -> str:
    return ", ".join(items[:6]) + (f" and {len(items) - 6:,} more" if len(items) > 6 else "")


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
