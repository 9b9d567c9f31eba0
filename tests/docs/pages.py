"""The code blocks of a page of Markdown: what each is, and what is said about it in the comment before it."""

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]

LANGUAGES = ("console", "bash", "python", "text", "json", "yaml", "html", "csv", "dockerfile")
"""What a fence may be. The first three are commands and code, and are run or checked; the others are shown."""

_FENCE = re.compile(r"^( *)(`{3,})([\w+-]*)(.*)$")
_SAID = re.compile(r"<!-- *(no-run|file): *(.*?) *-->")


class PageError(Exception):
    """A page that breaks the convention of CONTRIBUTING.md; names the page and the line."""


@dataclass
class Block:
    """A fenced block: `lines` without the fences and their indentation, from line `first` (of 0) to before `end`."""

    page: Path
    language: str
    lines: list[str]
    first: int
    end: int
    indent: str = ""
    no_run: str = ""
    file: str = ""

    @property
    def place(self) -> str:
        return f"{name_of(self.page)}:{self.first}"

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@dataclass
class Command:
    """A command of a console block, with the lines that it prints: `lines[first:end]` of the block."""

    text: str
    shown: list[str] = field(default_factory=list)
    first: int = 0
    end: int = 0


def name_of(page: Path) -> str:
    """The page as the checkout names it, `docs/guides/auto.md`."""
    return page.resolve().relative_to(ROOT).as_posix()


def all_pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def read_blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order.

    Raises:
        PageError: a fence has no language or an unknown one, or a block that ends nowhere.
    """
    lines = page.read_text().splitlines()
    blocks, at, said = [], 0, {}
    while at < len(lines):
        if found := _SAID.search(lines[at]):
            said[found[1]] = found[2]
        elif opened := _FENCE.match(lines[at]):
            indent, fence, language = opened[1], opened[2], opened[3]
            end = next((n for n in range(at + 1, len(lines)) if lines[n].strip() == fence), None)
            if end is None:
                raise PageError(f"{name_of(page)}:{at + 1}: a code block that ends nowhere")
            if language not in LANGUAGES:
                raise PageError(f"{name_of(page)}:{at + 1}: '```{language}' is none of {', '.join(LANGUAGES)}")
            body = [line.removeprefix(indent) for line in lines[at + 1 : end]]
            blocks.append(
                Block(page, language, body, at + 1, end, indent, said.get("no-run", ""), said.get("file", ""))
            )
            at, said = end, {}
        elif lines[at].strip():
            said = {}
        at += 1
    return blocks


def read_commands(block: Block) -> list[Command]:
    """The commands of a console block: lines that begin with `$ `, continued by a backslash; all else is output."""
    commands: list[Command] = []
    at = 0
    while at < len(block.lines):
        line = block.lines[at]
        if line.startswith("$ "):
            words = line[2:]
            while words.endswith("\\") and at + 1 < len(block.lines):
                at += 1
                words = words[:-1] + " " + block.lines[at].strip()
            commands.append(Command(words.strip(), [], at + 1, at + 1))
        elif commands:
            commands[-1].shown.append(line)
            commands[-1].end = at + 1
        elif line.strip():
            raise PageError(f"{block.place}: output before the first command: a command begins with '$ '")
        at += 1
    return commands


def shell_lines(block: Block) -> list[str]:
    """The lines of a bash block, those that end in a backslash joined with the next."""
    return re.sub(r"\\\n\s*", " ", block.text).splitlines()
