"""MONAI's plain recipe, as its tutorials and the model zoo's spleen bundle train: for some steps or minutes.

    python benchmarks/peers/zoo.py COHORT FOLDER --minutes 20 40

CacheDataset of the steps before the crop, RandCropByPosNegLabeld, DataLoader, UNet with residual units, DiceCELoss,
Adam with one learning rate, SupervisedTrainer. Settings are the zoo's spleen_ct_segmentation's, but for what the data
decide: the window, no resampling (all volumes have 1 mm), and intensities normalised by image, as its MR bundles do,
instead of a window of Hounsfield units. FOLDER gets result.json and, with --predict, predictions on the native grid.
With --minutes FOLDER/20_minutes does, and so on: there is no schedule, so 20 minutes of training are the first half of
40, and one training serves both.

With --like RUN the network, window and batch are those of a training of volseg, and flips and shifts of intensity are
added as in MONAI's BTCV tutorials: for the comparison of speed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai import transforms as mt
from monai.data import CacheDataset, DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.utils import set_determinism

from volseg.cohort import Cohort

WINDOW = (32, 48, 32)
SAMPLES, BATCH = 4, 2  # crops of a volume, volumes of a batch


class Clock:
    """Times of steps and of the waits for their batches; ends a training after steps, or the last of some seconds.

    Args:
        seconds: each with the folder that gets the state at that time.
        steps: after which the training ends.
        keep: called with a folder and the clock.
    """

    def __init__(
        self, *, seconds: Mapping[float, Path], steps: int | None, keep: Callable[[Path, Clock], None]
    ) -> None:
        self.coming, self.steps, self.keep = sorted(seconds.items()), steps, keep
        self.steps_s: list[float] = []
        self.waits_s: list[float] = []
        self.began = self.asked = self.had = 0.0

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer."""
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._ask)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._have)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._stepped)

    def _ask(self) -> None:
        self.asked = time.perf_counter()
        self.began = self.began or self.asked

    def _have(self) -> None:
        self.had = time.perf_counter()

    def _stepped(self, engine: Engine) -> None:
        now = time.perf_counter()
        self.waits_s.append(self.had - self.asked)
        self.steps_s.append(now - self.had)
        timed = bool(self.coming)
        while self.coming and now - self.began >= self.coming[0][0]:
            self.keep(self.coming.pop(0)[1], self)
            self.began += time.perf_counter() - now  # keeping does not count
            now = time.perf_counter()
        if (timed and not self.coming) or (self.steps and len(self.steps_s) >= self.steps):
            engine.terminate()


def loading(keys: Sequence[str]) -> list[Any]:
    """The steps that need no chance and are kept in the cache."""
    return [
        mt.LoadImaged(keys),
        mt.EnsureChannelFirstd(keys),
        mt.Orientationd(keys, axcodes="RAS", labels=None),
        mt.NormalizeIntensityd("image", channel_wise=True),
        mt.EnsureTyped(keys),
    ]


def cropping(window: Sequence[int], *, samples: int, augmented: bool) -> list[Any]:
    """The crop, and for the comparison of speed what tutorials put behind it."""
    keys = ["image", "label"]
    steps: list[Any] = [
        mt.SpatialPadd(keys, spatial_size=window),
        mt.RandCropByPosNegLabeld(
            keys,
            label_key="label",
            spatial_size=window,
            pos=1,
            neg=1,
            num_samples=samples,
            image_key="image",
            image_threshold=0,
        ),
    ]
    if augmented:
        steps += [mt.RandFlipd(keys, spatial_axis=0, prob=0.5)]
        steps += [
            mt.RandScaleIntensityd("image", factors=0.1, prob=0.5),
            mt.RandShiftIntensityd("image", 0.1, prob=0.5),
        ]
    return steps


def zoo_network(classes: int) -> torch.nn.Module:
    """The network of the zoo's spleen bundle."""
    channels, strides = (16, 32, 64, 128, 256), (2, 2, 2, 2)
    return UNet(3, 1, classes, channels, strides, num_res_units=2, norm="batch")


def network_of(run: Path) -> tuple[torch.nn.Module, list[int]]:
    """Network and window of a training of volseg, from the config that it left."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(run / "train.json"))
    return parser.get_parsed_content("network_def"), list(parser.get_parsed_content("roi_size"))


def predict(
    network: torch.nn.Module, cohort: Cohort, window: Sequence[int], folder: Path, device: torch.device
) -> None:
    """The held-out cases, as the zoo's inference.json: sliding window, softmax, inverted, argmax, saved."""
    before = mt.Compose(loading(["image"]))
    after = mt.Compose(
        [
            mt.Activationsd("pred", softmax=True),
            mt.Invertd("pred", transform=before, orig_keys="image", nearest_interp=False, to_tensor=True),
            mt.AsDiscreted("pred", argmax=True),
        ]
    )
    inferer = SlidingWindowInferer(window, sw_batch_size=4, overlap=0.5)
    network.eval()
    folder.mkdir(parents=True, exist_ok=True)
    for key in cohort.part("validation"):
        item = before({"image": cohort.image_paths(key)[0]})
        with torch.inference_mode():
            item["pred"] = inferer(item["image"][None].to(device), network)[0].cpu()
        save = mt.SaveImage(folder, output_postfix="", separate_folder=False, print_log=False, output_dtype="uint8")
        save(after(item)["pred"], filename=str(folder / key))


def main() -> None:
    """Parse, train, predict."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--minutes", type=float, nargs="+", default=[], help="the last ends it; the others keep a state"
    )
    parser.add_argument("--steps", type=int)
    parser.add_argument("--rate", type=float, default=1e-4, help="learning rate")
    parser.add_argument("--workers", type=int, default=0, help="of the DataLoader")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--like", type=Path, help="folder of a training whose network, window and batch to take")
    parser.add_argument("--predict", action="store_true", help="write the held-out cases into predictions/")
    given = parser.parse_args()
    if bool(given.minutes) == bool(given.steps):
        parser.error("name either --minutes or --steps")
    cohort, device = Cohort.open(given.cohort), torch.device(given.device)
    set_determinism(0)
    classes = cohort.labels.channels
    if given.like:
        network, window = network_of(given.like)
        samples, batch = 1, 4
    else:
        network, window = zoo_network(classes), list(WINDOW)
        samples, batch = SAMPLES, BATCH
    network = network.to(device)
    items = [{"image": str(item["image"][0]), "label": str(item["label"])} for item in cohort.datalist("training")]
    steps = [*loading(["image", "label"]), *cropping(window, samples=samples, augmented=bool(given.like))]
    data: Dataset = CacheDataset(items, mt.Compose(steps), num_workers=2, progress=False)
    loader = DataLoader(data, batch_size=batch, shuffle=True, num_workers=given.workers, drop_last=len(items) > batch)
    loss = DiceCELoss(
        include_background=False,
        to_onehot_y=True,
        softmax=True,
        squared_pred=True,
        batch=True,
        smooth_nr=1e-5,
        smooth_dr=1e-5,
        lambda_dice=0.5,
        lambda_ce=0.5,
    )

    def keep(folder: Path, clock: Clock) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "seconds": sum(clock.steps_s) + sum(clock.waits_s),
            "steps_s": clock.steps_s,
            "waits_s": clock.waits_s,
            "batch_size": batch * samples,
            "patch": [int(n) for n in window],
            "parameters": sum(p.numel() for p in network.parameters()),
        }
        (folder / "result.json").write_text(json.dumps(facts))
        torch.save(network.state_dict(), folder / "model.pt")

    states = {60 * minutes: given.folder / f"{minutes:g}_minutes" for minutes in given.minutes}
    clock = Clock(seconds=states, steps=given.steps, keep=keep)
    trainer = SupervisedTrainer(
        device=device,
        max_epochs=10**6,
        train_data_loader=loader,
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), given.rate),
        loss_function=loss,
        train_handlers=[clock],
        amp=device.type == "cuda",
    )
    trainer.run()
    if given.steps:
        keep(given.folder, clock)
    for folder in (states.values() or [given.folder]) if given.predict else ():
        network.load_state_dict(torch.load(folder / "model.pt", map_location=device, weights_only=True))
        predict(network, cohort, window, folder / "predictions", device)


if __name__ == "__main__":
    main()
