"""The preflight of a bundle, run on a cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from volseg.training.checks.preflight import preflight

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "swinunetr"


def check(cohort: Path, output_dir: Path, **overrides: Any) -> None:
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "train.json"))
    parser.update(
        {
            "bundle_root": str(BUNDLE),
            "dataset_dir": str(cohort),
            "output_dir": str(output_dir),
            "cache_dir": str(output_dir / "cache"),
            "device": "cpu",
            "roi_size": [64, 32, 32],
            **{name.replace("__", "#"): value for name, value in overrides.items()},
        }
    )
    preflight(parser)
