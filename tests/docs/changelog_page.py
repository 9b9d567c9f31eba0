"""What the site adds to the pages of docs/, as a hook of MkDocs: CHANGELOG.md, with its links as the site has them."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"


def on_files(files: Files, config: Any) -> Files:
    text = CHANGELOG.read_text().replace("](docs/", "](")
    files.append(File.generated(config, "changelog.md", content=text))
    return files
