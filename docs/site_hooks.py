"""What the site shows beside `docs/`: the pages of the bundles, of the project, and one per room for Python.

Links between pages are written as they work in a checkout (`../../bundles/unet/docs/README.md`); here they are turned
to the page that the site has of that file.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PROJECT = {"CHANGELOG.md": "Changelog", "CONTRIBUTING.md": "Contributing", "SECURITY.md": "Security"}
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")


def bundles() -> dict[str, str]:
    """The page that the site has of each page of a bundle, both from the root of the checkout."""
    pages = sorted(ROOT.glob("bundles/[a-z]*/docs/README.md"))
    return {page.relative_to(ROOT).as_posix(): f"networks/{page.parts[-3]}.md" for page in pages}


def rooms() -> list[str]:
    """The rooms that export names."""
    faces = sorted(ROOT.glob("volseg/*/__init__.py"))
    return [path.parent.name for path in faces if "__all__ = " in path.read_text(encoding="utf-8")]


def others() -> dict[str, str]:
    """Site page of each page of the checkout that lies outside `docs/`."""
    return {**bundles(), **{name: f"project/{name.lower()}" for name in PROJECT}}


def on_config(config: Any) -> Any:  # noqa: ANN401 - mkdocs' configuration
    """Fill the parts of the navigation that follow from the tree."""
    parts: dict[str, list[Any]] = {
        "Networks": list(bundles().values()),
        "Project": [{title: f"project/{name.lower()}"} for name, title in PROJECT.items()],
        "Python": [{f"volseg.{room}": f"reference/python/{room}.md"} for room in rooms()],
    }

    def fill(entries: list[Any]) -> None:
        for entry in entries:
            for title, below in entry.items() if isinstance(entry, dict) else ():
                if below == [] and title in parts:
                    entry[title] = parts[title]
                elif isinstance(below, list):
                    fill(below)

    fill(config["nav"])
    return config


def on_files(files: Files, *, config: Any) -> Files:  # noqa: ANN401
    """Add the pages that lie elsewhere, and one per room."""
    for source, page in others().items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for room in rooms():
        text = f"# volseg.{room}\n\n::: volseg.{room}\n"
        files.append(File.generated(config, f"reference/python/{room}.md", content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:  # noqa: ANN401, ARG001
    """Turn links to files of the checkout to the pages that the site has of them."""
    here = page.file.src_uri
    source = {site: file for file, site in others().items()}.get(here, f"docs/{here}")

    def turned(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        site = others().get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else None)
        return posixpath.relpath(site, posixpath.dirname(here)) if site else link[1]

    return _LINK.sub(turned, markdown)
