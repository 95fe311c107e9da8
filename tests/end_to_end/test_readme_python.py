"""The lines of Python in README.md run as they stand, on a small cohort and network in the quickstart's folders."""

from __future__ import annotations

import re
from pathlib import Path

from tiny_bundle import write_bundle, write_checkpoint

from volseg.cohort import write_cohort
from volseg.datasets import write_phantom
from volseg.formats import UwMadison

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_lines_of_python_in_the_readme_run(tmp_path, monkeypatch):
    place = tmp_path / "data" / "quickstart"
    write_phantom(place / "raw", patients=2, days=1)
    write_cohort(UwMadison(place / "raw"), place / "cohort", folds=2)
    (tmp_path / "bundles").mkdir()
    write_bundle(tmp_path / "bundles" / "unet")
    write_checkpoint(place / "run" / "model.pt", spacing_mm=(4, 4, 3))
    monkeypatch.chdir(tmp_path)
    (lines,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    found: dict[str, object] = {}
    exec(compile(lines, "README.md", "exec"), found)
    assert len(found["rows"]) == 3 * len(found["keys"])
    assert all(not row.error for row in found["rows"])
    assert sorted(path.name for path in (place / "again").glob("*.nii.gz")) == [
        f"{key}.nii.gz" for key in found["keys"]
    ]
