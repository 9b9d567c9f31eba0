"""The page of every command is that of the declarations."""

from avssl.commands import COMMANDS
from avssl.config.option import keys_of
from tests.docs import reference


def test_the_page_of_commands_is_not_stale():
    assert reference.PAGE.read_text() == reference.page(), "python -m tests.docs --write reference"


def test_every_option_is_on_the_page():
    page = reference.page()
    for name, command in COMMANDS.items():
        assert f"## avssl {name}\n" in page
        for key in keys_of(command.schema):
            assert f"| `{key.name}` |" in page


def test_a_run_is_never_needed_because_the_newest_is_taken():
    rows = [line for line in reference.page().splitlines() if line.startswith("| `run` |")]
    newest = [line for line in rows if line.startswith("| `run` | the newest run |")]
    assert len(newest) >= 7  # clusters, open, watch, label, locate, detect, export, evaluate
    assert not [line for line in rows if "needed" in line]
