"""Write the files of every bundle from one template and what its network has of its own.

    python bundles/_base/compose.py           # after a change of template/ or networks/
    python bundles/_base/compose.py --check   # change nothing; exit code 1 and the names of files that differ

A bundle stays a folder of complete files: MONAI resolves `%file` against the working directory, and the commands of a
bundle must work from any folder. `networks/NAME.json` gives the value of an id (`optimizer#params#decay_norms`) in a
file, and under `BUNDLE_SETTINGS` and `BUNDLE_DERIVED` the entries that stand at that place of the template. `NAME.md`
gives the parts of the page of the bundle, one per heading.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BUNDLES = HERE.parent
NAMES = sorted(path.stem for path in (HERE / "networks").glob("*.json"))


def composed(name: str) -> dict[str, str]:
    """Text of each file of a bundle, by its path in the bundle's folder."""
    own = json.loads((HERE / "networks" / f"{name}.json").read_text(encoding="utf-8"))
    files = {}
    for path in sorted(path for path in (HERE / "template").rglob("*") if path.is_file()):
        file = path.relative_to(HERE / "template").as_posix()
        text = path.read_text(encoding="utf-8").replace("BUNDLE_NAME", name)
        if path.suffix == ".json":
            text = _json(text, own.pop(file, {}))
        if path.suffix == ".md":
            text = _page(text, (HERE / "networks" / f"{name}.md").read_text(encoding="utf-8"))
        if left := re.search("BUNDLE_[A-Z_]+", text):
            raise SystemExit(f"{path} asks for {left.group()}, which networks/{name} does not give")
        files[file] = text
    if own:
        raise SystemExit(f"networks/{name}.json names {', '.join(own)}, which template/ does not have")
    return files


def _json(text: str, values: dict[str, Any]) -> str:
    """The template with the values of one network: each id that is given replaces or adds one."""
    content: dict[str, Any] = {}
    for key, value in json.loads(text).items():
        if key.startswith("BUNDLE_"):
            content.update(values.get(key, {}))
        else:
            content[key] = value
    for key, value in values.items():
        if not key.startswith("BUNDLE_"):
            *above, last = key.split("#")
            place = content
            for step in above:
                place = place[step]
            place[last] = value
    return json.dumps(content, indent=4, ensure_ascii=False) + "\n"


def _page(text: str, parts: str) -> str:
    """The page with each placeholder (BUNDLE_ONE_SLICE) replaced by the part under its heading ("One slice")."""
    # Longer names first: BUNDLE_WINDOW begins BUNDLE_WINDOW_SETTING.
    found = {
        "BUNDLE_" + head.strip().upper().replace(" ", "_"): body.strip()
        for head, body in (part.split("\n", 1) for part in re.split(r"^## ", parts, flags=re.MULTILINE)[1:])
    }
    for placeholder in sorted(found, key=len, reverse=True):
        text = text.replace(placeholder, found[placeholder])
    return text


def main() -> None:
    """Write or check all bundles."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, name the files that differ")
    check = parser.parse_args().check
    differ = []
    for name in NAMES:
        for file, text in composed(name).items():
            path = BUNDLES / name / file
            if path.is_file() and path.read_text(encoding="utf-8") == text:
                continue
            differ.append(path.relative_to(BUNDLES.parent).as_posix())
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    if differ:
        print("\n".join(differ))  # noqa: T201 - a command
    if differ and check:
        raise SystemExit("these differ from what bundles/_base gives; change it there, and run compose.py")


if __name__ == "__main__":
    main()
