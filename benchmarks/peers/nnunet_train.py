"""`nnUNetv2_train` with nnU-Net's own trainer, so many epochs of so many iterations, and its steps timed.

The trainer is handed over by name: nnU-Net's search for one imports all that come with it, some of which need a
torchvision that fits torch, and there is none for CPU builds.

Left out, since epochs are far shorter than its 250 iterations and these would take a share of the time that they never
take there: the checkpoint of the best pseudo-Dice, the picture of the progress, and all but one of the 50 iterations of
validation an epoch. Everything else is nnU-Net's default.
"""

import json
import os
import time
from pathlib import Path

import torch
from nnunetv2.run import run_training
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class BudgetTrainer(nnUNetTrainer):
    """Reads `VOLSEG_BUDGET`, writes `steps.json` beside its checkpoint."""

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - as nnU-Net declares it
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        asked = json.loads(os.environ["VOLSEG_BUDGET"])
        self.num_epochs = asked["epochs"]
        self.num_iterations_per_epoch = asked["iterations"]
        self.num_val_iterations_per_epoch = 1
        self.with_predictions = asked["predict"]
        self.save_every = self.num_epochs + 1
        self.logger.plot_progress_png = lambda _: None
        self.steps: list[float] = []
        self.waits: list[float] = []
        self.began = self.ready = 0.0

    def on_train_epoch_start(self) -> None:
        """The clock of the training starts with the first epoch."""
        super().on_train_epoch_start()
        self.ready = time.perf_counter()
        self.began = self.began or self.ready

    def train_step(self, batch: dict) -> dict:
        """A step, and the wait for its batch before it."""
        start = time.perf_counter()
        self.waits.append(start - self.ready)
        result = super().train_step(batch)
        self.ready = time.perf_counter()
        self.steps.append(self.ready - start)
        return result

    def on_epoch_end(self) -> None:
        """Without the checkpoint of the best epoch."""
        self.disable_checkpointing = True
        super().on_epoch_end()
        self.disable_checkpointing = False

    def on_train_end(self) -> None:
        """Write the times."""
        facts = {
            "seconds": time.perf_counter() - self.began,
            "steps_s": self.steps,
            "waits_s": self.waits,
            "epochs": self.num_epochs,
            "batch_size": self.batch_size,
            "patch": [int(n) for n in self.configuration_manager.patch_size],
            "parameters": sum(p.numel() for p in self.network.parameters()),
        }
        (Path(self.output_folder) / "steps.json").write_text(json.dumps(facts))
        super().on_train_end()

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """The predictions of the held-out cases, where they are asked for."""
        if self.with_predictions:
            super().perform_actual_validation(save_probabilities)


if __name__ == "__main__":
    run_training.recursive_find_trainer_class_by_name = lambda _: BudgetTrainer
    run_training.run_training_entry()
