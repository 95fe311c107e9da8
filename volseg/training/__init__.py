"""What MONAI's engines lack: the preflight, the progress bar, the key metric and pictures."""

from volseg.training.dice import VolumetricDice, better
from volseg.training.loss import dice_ce
from volseg.training.pictures import Pictures
from volseg.training.progress import Progress

__all__ = ["Pictures", "Progress", "VolumetricDice", "better", "dice_ce"]
