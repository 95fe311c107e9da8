"""A bundle as an algorithm of MONAI's Auto3DSeg: its template, and what the programs of the template do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg import opened_at_first_use

if TYPE_CHECKING:
    from volseg.deploy.auto3dseg.algo import VolsegAlgo
    from volseg.deploy.auto3dseg.data_list import cohort_list, fold_number
    from volseg.deploy.auto3dseg.inferer import ProbabilityInferer
    from volseg.deploy.auto3dseg.template import write_template
    from volseg.deploy.auto3dseg.training import train

__all__ = [
    "ProbabilityInferer",
    "VolsegAlgo",
    "cohort_list",
    "fold_number",
    "train",
    "write_template",
]

# Writing a template needs nothing of MONAI.
__getattr__ = opened_at_first_use(
    {
        "volseg.deploy.auto3dseg.algo": ("VolsegAlgo",),
        "volseg.deploy.auto3dseg.data_list": ("cohort_list", "fold_number"),
        "volseg.deploy.auto3dseg.inferer": ("ProbabilityInferer",),
        "volseg.deploy.auto3dseg.template": ("write_template",),
        "volseg.deploy.auto3dseg.training": ("train",),
    }
)
