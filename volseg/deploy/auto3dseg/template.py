"""The template of an algorithm, in the layout that MONAI's `BundleGen` copies: three short programs and the bundle."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from volseg.bundle import copy as copy_bundle
from volseg.bundle import find
from volseg.errors import UsageError
from volseg.files import PARTIAL

# The programs name what they need of volseg; all else is in volseg, so that a template does not age.
_ALGO = '''"""The algorithm that `BundleGen` makes per fold."""

from volseg.deploy.auto3dseg import VolsegAlgo


class {name}Algo(VolsegAlgo):
    """{title}"""
'''
_TRAIN = '''"""Trains one fold: `python train.py run --config_file=../configs/hyper_parameters.yaml`."""

import fire

from volseg.deploy.auto3dseg import train

if __name__ == "__main__":
    fire.Fire({"run": train})
'''
_INFER = '''"""Gives the probabilities of one image, for ensembles."""

from volseg.deploy.auto3dseg import ProbabilityInferer as InferClass

__all__ = ["InferClass"]
'''


def write_template(bundle: str | Path, folder: str | Path) -> Path:
    """Write the template of a bundle into a folder of templates, whole or not at all.

    `BundleGen` and `AutoRunner` take that folder as `templates_path_or_url`. The template is called after the bundle
    with "volseg" before it: a template `swinunetr` would stand beside MONAI's own of that name. Letters and digits
    alone are kept, since MONAI reads the fold from what follows the first underscore.

    Args:
        bundle: Name or folder of the bundle or package.
        folder: Folder of templates; it may hold others.

    Returns:
        The folder of the template.

    Raises:
        BundleError: There is no such bundle.
        UsageError: The folder holds a template of that name.
    """
    source, templates = find(bundle), Path(folder)
    name = template_name(source.name)
    target = templates / name
    if target.exists():
        raise UsageError(f"{target} is there already; remove it, or name another folder")
    templates.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=PARTIAL, suffix=f"-{name}", dir=templates))
    try:
        scripts, configs = work / "scripts", work / "configs"
        for path, text in {
            scripts / "__init__.py": "",
            scripts / "algo.py": _ALGO.format(
                name=name.capitalize(), title=f"The bundle {source.name}, trained by volseg."
            ),
            scripts / "train.py": _TRAIN,
            scripts / "infer.py": _INFER,
            configs / "hyper_parameters.yaml": "{}\n",
        }.items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        copy_bundle(source, work / "bundle" / source.name)
        work.chmod(templates.stat().st_mode & 0o777)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def template_name(bundle: str) -> str:
    """The name of a bundle's template.

    >>> template_name("dense_unet"), template_name("UNet-2")
    ('volsegdenseunet', 'volsegunet2')
    """
    return "volseg" + re.sub(r"[^a-z0-9]", "", bundle.lower())
