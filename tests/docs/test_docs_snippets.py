"""Every code block of the docs does what the page says: see "Docs" in CONTRIBUTING.md."""

from pathlib import Path

import pytest

from tests.docs.check_words import calls, problem
from tests.docs.compare import matches
from tests.docs.pages import PageError, all_pages, name_of, read_blocks
from tests.docs.working_folder import Folder
from tests.docs.write import rewrite, run_page, unrunnable_problems

MOST_NOT_RUN = 12
"""Blocks of all pages that are switched off by `no-run`, at most."""

PAGES = all_pages()


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Folder:
    made = Folder(tmp_path_factory.mktemp("docs"))
    made.prepare()
    return made


def _to_run(page: Path) -> bool:
    return any(block.language in ("console", "python") and not block.no_run for block in read_blocks(page))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_exists_with_its_options(page):
    assert not unrunnable_problems(page)


@pytest.mark.parametrize("page", [page for page in PAGES if _to_run(page)], ids=name_of)
def test_every_block_prints_what_the_page_shows(page, folder):
    wrong = run_page(page, folder).wrong
    assert not wrong, (
        "\n\n".join(wrong) + f"\n\nTo write this into the page: python -m tests.docs --write {name_of(page)}"
    )


def test_few_blocks_are_not_run():
    blocks = [block for page in PAGES for block in read_blocks(page)]
    assert sum(bool(block.no_run) for block in blocks) <= MOST_NOT_RUN


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("1,100 videos written in 29 s", "60 videos written in 2.6 s", True),
        ("NMI  75.6  ─────", "NMI 9.0 ──────────", True),
        ("left … of 800", "left 3 and 4 of 60", True),
        ("the first line\n…\nthe last", "the first line\na\nb\nthe last", True),
        ("loss -1.0e-05", "loss 3", True),
        ("7 usable", "7 rejected", False),
        ("a line", "a line\nand one more", False),
        ("", "a line", False),
    ],
)
def test_numbers_may_differ_and_words_may_not(shown, printed, same):
    assert matches(shown, printed) is same


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("avssl train my_videos labelling.clusters=20   # a comment", ""),
        ("avssl train my_videos labelling.cluster=20", "labelling.cluster"),
        ("for s in 1 2; do avssl train data.root=my_videos seed=$s; done", ""),
        ("find new | avssl label run=runs/a videos=- nonsense=1", "nonsense"),
        ("srun avssl trian data.root=my_videos", "trian"),
        ("avssl train --multirun data.root=my_videos seed=0,1,2", ""),
        ("python -m benchmarks loader itmes=4", "itmes"),
        ("make demonstration", "demonstration"),
    ],
)
def test_an_option_that_does_not_exist_is_found(line, wrong):
    said = " ".join(problem(*call) for call in calls(line))
    assert (wrong in said) if wrong else not said


def test_a_block_needs_a_language_and_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.docs.pages.ROOT", tmp_path)
    page = tmp_path / "page.md"
    for text in ("```\navssl\n```\n", "```console\n$ avssl\n", "```pyhton\n```\n"):
        page.write_text(text)
        with pytest.raises(PageError):
            read_blocks(page)


def test_what_is_printed_is_written_where_the_page_differs(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("tests.docs.pages.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "1. In a list:\n\n"
        "   ```console\n   $ ls new\n   $ head -n 1 my_videos/labels.csv\n   path,…\n   ```\n\n"
        "```python\nprint(6 * 7)\n# six times seven\n```\n\n"
        '```python\nprint("a")\n```\n\n```text\nb\n```\n\n'
        "<!-- no-run: it fails -->\n```python\nraise SystemExit\n```\n"
        '<!-- file: net.py -->\n```python\nnumber = "3"\n```\n\n'
        "```python\nfrom net import number\n\nprint(number + 1)\n```\n"
    )
    outcome = run_page(page, folder)
    assert [said.partition("\n")[0].partition(":")[2] for said in outcome.wrong] == [
        "3: $ ls new", "9", "14", '31: TypeError: can only concatenate str (not "int") to str',
    ]  # fmt: skip
    rewrite(page, outcome)
    text = page.read_text()
    assert "   $ ls new\n   a.mp4\n   b.mp4\n   holiday.mp4\n   $ head" in text
    assert "   path,…\n" in text
    assert "```text\na\n```" in text
