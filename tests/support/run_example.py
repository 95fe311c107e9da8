"""A run.json with everything that its schema allows."""

from __future__ import annotations

from typing import Any


def row(epoch: int, dice: float | None) -> dict[str, Any]:
    regions = None if dice is None else {"a|b": dice, "c": None}
    told = {
        "epoch": epoch,
        "elapsed_s": 2.0 * epoch,
        "loss": 1 / epoch,
        "learning_rate": 0.001,
        "data_wait_share": 0.02,
    }
    return {**told, "dice": dice, "regions": regions}


RUN: dict[str, Any] = {
    "schema": "volseg.run/1",
    "status": "finished",
    "error": None,
    "started": "2026-01-01T00:00:00+00:00",
    "updated": "2026-01-01T02:00:00+00:00",
    "folder": "/data/my runs/one",
    "bundle": "mine",
    "command": "volseg train mine",
    "max_epochs": 100,
    "settings": {
        "given": {"roi_size": [64, 32, 32], "rate": "x" * 99},
        "values": {"seed": 7, "bundle_root": "/b/mine"},
    },
    "versions": {
        "python": "3.11",
        "torch": "2.13",
        "monai": "1.6",
        "volseg": "0.1",
        "numpy": "2.4",
        "transformers": None,
    },
    "git": {"commit": "0" * 40, "dirty": True},
    "machine": {
        **{
            "host": "h",
            "system": "Linux",
            "processor": "CPU",
            "cores": 2,
            "threads": 1,
            "device": "cuda:0",
            "gpu": "GPU X",
            "processes": 2,
        }
    },
    "cohort": {
        **{"folder": "/data/cohort", "digest": "0" * 16, "fold": 1, "training_cases": 160, "validation_cases": 40},
        "regions": ["a|b", "c"],
    },
    "network": {
        **{
            "name": "Net",
            "parameters": 62_186_757,
            "trainable": 1,
            "roi_size": [128, 128, 64],
            "flops": 764_010_130_176,
        },
        "initialisation": "scratch",
    },
    "history": [row(epoch, epoch / 200 if epoch != 51 else 0.9) for epoch in range(1, 101)],
    "best": {"epoch": 51, "dice": 0.9, "regions": {"a|b": 0.9, "c": None}, "cases": []},
    "timing": {"seconds": 7500.0, "iterations": 1600, "seconds_per_iteration": 0.25, "data_wait_share": 0.021},
    "memory": {"resident_bytes": 2**30, "cuda_bytes": 3 * 2**30},
    "checkpoints": [{"file": "model.pt", "bytes": 2**20}],
    "sessions": [
        {
            **{"started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T02:00:00+00:00", "status": "finished"},
            **{
                "first_epoch": 1,
                "epochs": 100,
                "seconds": 7500.0,
                "trained_s": 400.0,
                "waited_s": 8.4,
                "iterations": 1600,
            },
        }
    ],
}
