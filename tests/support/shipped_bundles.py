"""The bundles of the repository, and settings that make their networks small."""

from __future__ import annotations

from pathlib import Path

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"


NAMES = sorted(path.parent.name for path in BUNDLES.glob("*/train.json"))


# Small enough that a step takes a second.
TINY = {
    "swinunetr": {"window_size": 2, "roi_size": [64, 32, 32]},
    "unetr": {"hidden_size": 24, "mlp_dim": 24, "num_heads": 2, "feature_size": 4, "roi_size": [32, 32, 16]},
    "unet": {"width": 4, "roi_size": [32, 32, 16]},
    "dense_unet": {"growth_rate": 2, "roi_size": [32, 32, 16]},
    "segformer": {"roi_size": [32, 32, 16]},
}
