"""docs/reference/commands.md: every command with its options, from their declarations."""

from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "reference" / "commands.md"


def page() -> str:
    return ""
