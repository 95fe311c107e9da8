"""The folder of a hosted demo, a Hugging Face Space: app.py, requirements, page, packed bundle and package."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import volseg
from volseg.bundle import Recipe, read_recipe
from volseg.deploy.pack import pack
from volseg.errors import UsageError
from volseg.files import PARTIAL

_PYTHON = "3.11"
_APP = '''"""The hosted demo: the bundle beside this file, served by the copy of volseg beside it."""

import os
from pathlib import Path

from volseg.deploy.demo.run import run

if __name__ == "__main__":
    run(
        Path(__file__).resolve().parent / "bundle",
        host=os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"),
        port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")),
        max_mb={max_mb:g},
        framed_by="https://huggingface.co",
    )
'''
_PAGE = """---
title: {title}
sdk: gradio
sdk_version: {gradio}
python_version: "{python}"
app_file: app.py
pinned: false
---

A demo of a network that segments {regions} in {channels}, made with `volseg demo --write-space`
(volseg {version}). For research only: it is not a medical device.

Uploads are deleted when the page is closed. They do travel to the computer that runs this page, and whoever runs it can
see them: do not upload what names a person, nor what its owner has not agreed to.

`bundle/` is a MONAI bundle with its weights; `volseg/` is the program, under the Apache License 2.0 (`bundle/LICENSE`).
State here which data the network was trained on, and under which licence its weights may be used.
"""
_LARGE = "*.pt filter=lfs diff=lfs merge=lfs -text\n"


def write_space(folder: Path, bundle: str | Path, *, checkpoint: Path | None = None, max_mb: float = 512) -> None:
    """Write the folder, whole or not at all; it can be pushed as it is, and `python app.py` runs in it.

    The versions in `requirements.txt` are those that are installed here.

    Args:
        folder: Folder, absent or empty.
        bundle: Name or folder of the bundle.
        checkpoint: File of the weights; the bundle's default otherwise.
        max_mb: Largest upload in MiB.

    Raises:
        UsageError: The folder is not empty, or Gradio is not installed.
        VolsegError: The bundle cannot be packed.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"{folder} is there already; name another folder for the hosted demo")
    lines = pinned_requirements()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=folder.parent) as place:
        made = Path(place) / folder.name
        made.mkdir()
        pack(bundle, checkpoint=checkpoint, output=made / "bundle")
        recipe = read_recipe(made / "bundle" / "models" / "model.pt")
        source = Path(volseg.__file__).parent
        shutil.copytree(source, made / "volseg", ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".*"))
        (made / "app.py").write_text(_APP.format(max_mb=max_mb), encoding="utf-8")
        (made / "requirements.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        (made / "README.md").write_text(_page(recipe), encoding="utf-8")
        (made / ".gitattributes").write_text(_LARGE, encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        made.rename(folder)


def pinned_requirements() -> list[str]:
    """The requirements of volseg and Gradio, each with the version that is installed here.

    One that some versions of Python do without, and this one does, stays as volseg states it.

    Raises:
        UsageError: A package is not installed.
    """
    stated = ["gradio", *(line for line in requires("volseg") or [] if "extra ==" not in line)]
    named = {re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]: line for line in stated}
    pinned = []
    for name, line in sorted(named.items()):
        try:
            # The part behind + names a build, such as +cpu, that not every index has.
            pinned.append(f"{name}=={version(name).partition('+')[0]}")
        except PackageNotFoundError as error:
            if ";" not in line:
                raise UsageError(f'{name} is not installed: pip install "volseg[demo]"') from error
            pinned.append(line)
    return pinned


def _page(recipe: Recipe) -> str:
    regions = ", ".join(name.replace("_", " ") for name in recipe.labels.names)
    return _PAGE.format(
        title=json.dumps(f"Segmentation of {regions}"[:80], ensure_ascii=False),
        gradio=version("gradio"),
        python=_PYTHON,
        regions=regions,
        channels=", ".join(recipe.image_channels),
        version=volseg.__version__,
    )
