"""Compare the blocks of a page with what they do, and write what they print into the page."""

from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.check_words import calls, problem
from tests.docs.compare import matches, refreshed
from tests.docs.pages import Block, Command, read_blocks, read_commands, shell_lines
from tests.docs.working_folder import Folder

DIFFERS = "--- the page shows"


@dataclass
class Outcome:
    """What a page's blocks did: `wrong` in words, and the `changes` that make the page right.

    A change is the first line of the page that it replaces, the line after the last, and the new lines.
    """

    wrong: list[str] = field(default_factory=list)
    changes: list[tuple[int, int, list[str]]] = field(default_factory=list)

    def differ(self, place: str, shown: str, printed: str) -> None:
        self.wrong.append(f"{place}\n{DIFFERS}\n{shown or '(nothing)'}\n--- it prints\n{printed or '(nothing)'}")


def unrunnable_problems(page: Path) -> list[str]:
    """What is wrong in the blocks that only name commands: bash blocks, and those with a `no-run`."""
    wrong = []
    for block in read_blocks(page):
        if block.language == "bash" or (block.language == "console" and block.no_run):
            lines = [f"  {c.text}" for c in read_commands(block)] if block.language == "console" else shell_lines(block)
            wrong += [f"{block.place}: {line.strip()}: {said}" for line in lines for said in _said(line)]
        if block.language == "text" and any(line.startswith(("$ ", "avssl ")) for line in block.lines):
            wrong.append(f"{block.place}: a command in a text block: make it console or bash")
    return wrong


def _said(line: str) -> list[str]:
    return [said for program, words in calls(line) if (said := problem(program, words))]


def run_page(page: Path, folder: Folder) -> Outcome:
    """Run the console and Python blocks of a page, in order, in a fresh copy of the folder."""
    outcome, blocks = Outcome(), read_blocks(page)
    folder.start()
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        if block.no_run:
            continue
        if block.file:
            (folder.work / block.file).parent.mkdir(parents=True, exist_ok=True)
            (folder.work / block.file).write_text(block.text + "\n")
        if block.language == "console":
            for command in read_commands(block):
                _run_command(block, command, folder, outcome)
        elif block.language == "python":
            _run_python(block, after, folder, outcome)
    return outcome


def _run_command(block: Block, command: Command, folder: Folder, outcome: Outcome) -> None:
    status, printed = folder.run(command.text)
    shown = "\n".join(command.shown).strip("\n")
    if status and not any(line.startswith("avssl: ") for line in command.shown):
        outcome.wrong.append(f"{block.place}: $ {command.text} ended with status {status}:\n{printed}")
        return
    if not matches(shown, printed):
        outcome.differ(f"{block.place}: $ {command.text}", shown, printed)
    elif not folder.full:
        return
    else:
        printed = refreshed(shown, printed)
    if printed != shown:
        first = block.first + command.first
        blank = [""] if command.shown and not command.shown[-1] else []
        lines = [*printed.splitlines(), *blank]
        outcome.changes.append((first, first + len(command.shown), [block.indent + line for line in lines]))


def _run_python(block: Block, after: Block | None, folder: Folder, outcome: Outcome) -> None:
    try:
        printed = folder.python(block.text, block.place)
    except (Exception, SystemExit) as error:
        outcome.wrong.append(f"{block.place}: {type(error).__name__}: {error}")
        return
    below = after is not None and after.language == "text" and after.first - block.end <= 3 and not after.no_run
    if below:
        assert after is not None
        shown, place = after.text, (after.first, after.end)
        lines = printed.splitlines()
    else:
        comments = _last_comments(block)
        shown = "\n".join(line.removeprefix("#").strip() for line in comments)
        place = (block.end - len(comments), block.end)
        lines = [f"# {line}" for line in printed.splitlines()]
        if not printed:  # comments at the end of a block that prints nothing are comments
            return
    if not matches(shown, printed):
        outcome.differ(block.place, shown, printed)
    elif folder.full and below:
        lines = refreshed(shown, printed).splitlines()
    else:
        return
    if lines != shown.splitlines():
        outcome.changes.append((*place, [block.indent + line for line in lines]))


def _last_comments(block: Block) -> list[str]:
    """The comment lines that a block ends with."""
    at = len(block.lines)
    while at and block.lines[at - 1].startswith("#"):
        at -= 1
    return block.lines[at:]


def rewrite(page: Path, outcome: Outcome) -> None:
    """Put the changes into the page; what already matched stays as it is, with its figures and its `…`."""
    lines = page.read_text().splitlines()
    for first, end, new in sorted(outcome.changes, reverse=True):
        lines[first:end] = [line.rstrip() for line in new]
    page.write_text("\n".join(lines) + "\n")
