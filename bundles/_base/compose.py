"""Write the files of every bundle from one template and what its network has of its own.

    python bundles/_base/compose.py           # after a change of template/ or networks/
    python bundles/_base/compose.py --check   # change nothing; exit code 1 and the names of files that differ

A bundle stays a folder of complete files: MONAI resolves `%file` against the working directory, and the commands of a
bundle must work from any folder. `networks/NAME.json` gives the value of an id (`optimizer#params#decay_norms`) in a
file, and under `BUNDLE_SETTINGS` and `BUNDLE_DERIVED` the entries that stand at that place of the template. `NAME.md`
gives the parts of the page of the bundle, one per heading. `docs/reference/train-settings.md` is written too: what all
share, once, and what each network adds.
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
            text = _page(text, _parts(name))
        if file == "metadata.json" and (absent := _absent(json.loads(text))):
            raise SystemExit(f"networks/{name}.json must give {', '.join(absent)} of metadata.json")
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
    if "settings" in content:
        content["settings"]["values"] = {name: f"@{name}" for name in _settings(content)}
    return json.dumps(content, indent=4, ensure_ascii=False) + "\n"


def _absent(content: dict[str, Any], above: str = "") -> list[str]:
    """The ids of which the template says that each network gives its own, and this one does not."""
    found = []
    for key, value in content.items():
        if isinstance(value, dict):
            found += _absent(value, f"{above}{key}#")
        elif value is None:
            found.append(f"{above}{key}")
    return found


def _settings(content: dict[str, Any]) -> list[str]:
    """The ids whose values train.json hands to the record of a run: those above its recipe, and the iterations."""
    ids = list(content)
    return [name for name in ids[: ids.index("recipe")] if name != "imports"] + ["iterations"]


def _parts(name: str) -> dict[str, str]:
    """The parts of a bundle's page by placeholder: BUNDLE_ONE_SLICE for what stands under "One slice"."""
    text = (HERE / "networks" / f"{name}.md").read_text(encoding="utf-8")
    parts = (part.split("\n", 1) for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:])
    return {"BUNDLE_" + head.strip().upper().replace(" ", "_"): body.strip() for head, body in parts}


def settings_page() -> str:
    """The page of the site with each setting of train.json once."""
    page = (HERE / "template" / "docs" / "README.md").read_text(encoding="utf-8")
    rows = page.partition("## Settings of train.json\n")[2].partition("|---|---|---|---|\n")[2].partition("\n\n")[0]
    head = "| setting | meaning | on a CPU | on a GPU |\n|---|---|---|---|\n"
    own = {name: _parts(name) for name in NAMES}
    placeholders = ("BUNDLE_SETTINGS", "BUNDLE_LEARNING_RATE", "BUNDLE_WEIGHTS")
    shared = [row for row in rows.splitlines() if row not in placeholders]
    text = "\n".join(shared).replace("BUNDLE_NAME", "NAME").replace("BUNDLE_WINDOW_SETTING", "its multiples are below")
    lines = [
        "# Settings of train.json\n",
        "Each is given as `--name value`, to `volseg train` and to `python -m monai.bundle run`. `volseg train`",
        "refuses a name that is not there. `bundles/_base/compose.py` writes this page.\n",
        "## Of every bundle\n",
        f"{head}{text}\n",
    ]
    for parts in own.values():
        rows = "\n".join(parts[name] for name in ("BUNDLE_WEIGHTS", "BUNDLE_SETTINGS", "BUNDLE_LEARNING_RATE"))
        lines += [
            f"## Of {parts['BUNDLE_TITLE']}\n",
            f"Windows: {parts['BUNDLE_WINDOW_SETTING']}.\n",
            f"{head}{rows}\n",
        ]
    return "\n".join(lines)


def _page(text: str, found: dict[str, str]) -> str:
    """The page with each placeholder replaced by its part."""
    # Longer names first: BUNDLE_WINDOW begins BUNDLE_WINDOW_SETTING.
    for placeholder in sorted(found, key=len, reverse=True):
        text = text.replace(placeholder, found[placeholder])
    return text


def main() -> None:
    """Write or check all bundles."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, name the files that differ")
    check = parser.parse_args().check
    root = BUNDLES.parent
    files = {BUNDLES / name / file: text for name in NAMES for file, text in composed(name).items()}
    files[root / "docs" / "reference" / "train-settings.md"] = settings_page()
    differ = []
    for path, text in files.items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        differ.append(path.relative_to(root).as_posix())
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if differ:
        print("\n".join(differ))  # noqa: T201 - a command
    if differ and check:
        raise SystemExit("these differ from what bundles/_base gives; change it there, and run compose.py")


if __name__ == "__main__":
    main()
