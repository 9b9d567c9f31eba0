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
