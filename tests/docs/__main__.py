"""`python -m tests.docs [--write] [--full] [page …]`: run the docs' code blocks, and fill in what they print.

Without pages: all that are converted. `--write` puts the real output in where the page differs. `--full` has all the
videos and steps that a user has, in minutes: for the figures of a page. `reference` is the page of all commands.
"""

import sys
import tempfile
from pathlib import Path

from tests.docs import reference
from tests.docs.pages import all_pages, name_of, read_blocks
from tests.docs.working_folder import Folder
from tests.docs.write import DIFFERS, rewrite, run_page, unrunnable_problems


def main(words: list[str]) -> int:
    flags = {word for word in words if word.startswith("--")}
    names = [word for word in words if not word.startswith("--")]
    if flags - {"--write", "--full"}:
        print(__doc__, file=sys.stderr)
        return 2
    if "--write" in flags and (not names or "reference" in names):
        reference.PAGE.write_text(reference.page())
        print(f"written: {name_of(reference.PAGE)}")
    pages = [Path(name) for name in names if name != "reference"]
    if not names:
        pages = all_pages()
    wrong = [said for page in pages for said in unrunnable_problems(page)]
    for said in wrong:
        print(said, end="\n\n")
    runnable = [page for page in pages if any(b.language in ("console", "python") for b in read_blocks(page))]
    if runnable:
        with tempfile.TemporaryDirectory(prefix="avssl_docs_") as place:
            folder = Folder(Path(place), full="--full" in flags)
            folder.prepare()
            for page in runnable:
                outcome = run_page(page, folder)
                if "--write" in flags:
                    rewrite(page, outcome)
                    print(f"{name_of(page)}: {len(outcome.changes)} outputs written")
                    outcome.wrong = [said for said in outcome.wrong if DIFFERS not in said]
                wrong += outcome.wrong
                print(
                    f"{name_of(page)}: {'right' if not outcome.wrong else 'wrong'}",
                    *outcome.wrong,
                    sep="\n\n",
                    flush=True,
                )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
