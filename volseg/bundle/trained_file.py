"""The file that holds the weights of a training, of a package or of nnU-Net, found without PyTorch."""

from __future__ import annotations

import contextlib
from pathlib import Path

from volseg.bundle.folder import find, find_all, is_trained
from volseg.bundle.recipe import SAFETENSORS
from volseg.errors import BundleError, CheckpointError

_ENDINGS = (".pt", ".pth", SAFETENSORS)
_IN_A_RUN = ("model.pt", "models/model.pt", "models/model.safetensors", "checkpoint_final.pth", "checkpoint_best.pth")


def weights_file(weights: str | Path) -> Path:
    """The file that a user means by a run, a package, its name, or a file.

    Raises:
        CheckpointError: There is no such file.
    """
    path = Path(weights).expanduser()
    if path.is_file():
        if path.suffix not in _ENDINGS:
            raise CheckpointError(f"{path} must end in {', '.join(_ENDINGS)}")
        return path
    folders = [path]
    with contextlib.suppress(BundleError):
        folders.append(find(weights))
    for folder in folders:
        for inside in _IN_A_RUN:
            if (folder / inside).is_file():
                return folder / inside
    trained = [folder.name for folder in find_all() if is_trained(folder)]
    named = f", or one of {', '.join(trained)}" if trained else ""
    raise CheckpointError(
        f"there are no weights {weights}; name the folder of a run or a package, a file ({', '.join(_ENDINGS)}){named}"
    )
