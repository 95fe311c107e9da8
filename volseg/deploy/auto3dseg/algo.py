"""The algorithm that MONAI's `BundleGen` makes per fold, of a template that `write_template` wrote."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from monai.apps.auto3dseg import BundleAlgo
from monai.bundle import ConfigParser

from volseg.deploy.auto3dseg.data_list import cohort_list, fold_number
from volseg.errors import UsageError, naming
from volseg.files import atomic

HYPER_PARAMETERS = "hyper_parameters.yaml"


class VolsegAlgo(BundleAlgo):  # type: ignore[misc]  # MONAI has no types
    """A bundle of volseg, trained on one fold of Auto3DSeg's data list.

    It trains in one process on one device, the first of those that are visible.
    """

    device_setting: dict[str, Any]

    def fill_template_config(self, data_stats_filename: str | None, algo_path: str, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401 - MONAI's
        """Write `configs/hyper_parameters.yaml`: fold, data source and the list that will be converted.

        Args:
            data_stats_filename: Path of `datastats.yaml`; None if there is none.
            algo_path: Folder of this algorithm.
            kwargs: `fold`, from 0; what belongs to other algorithms is left alone.

        Returns:
            The values by file, as MONAI records them.

        Raises:
            UsageError: The data source lacks something; the message says what.
        """
        path = Path(str(self.data_list_file or ""))
        if not path.is_file():
            raise UsageError(f"there is no data source {path}; give BundleGen data_src_cfg_name")
        source = ConfigParser.load_config_file(str(path))
        given = Path(str(source.get("datalist") or ""))
        listed = given if given.is_absolute() or given.is_file() else path.parent / given
        if not listed.is_file():
            raise UsageError(f"{path} names the data list {given}, which is not there; correct datalist")
        data = ConfigParser.load_config_file(str(listed))
        there = data_stats_filename and Path(data_stats_filename).is_file()
        stats = ConfigParser.load_config_file(data_stats_filename) if there else {}
        fold = int(kwargs.get("fold", 0))
        with naming(str(path)):
            content = cohort_list(source, data, stats)
            number = fold_number(data, fold)
        values = {"fold": fold, "cohort_fold": number, "regions": "regions_class_order" in content, "dataset": content}
        # JSON is YAML, and no text in it is one that MONAI evaluates: nothing of it is parsed.
        with atomic(Path(algo_path) / "configs" / HYPER_PARAMETERS) as partial:
            partial.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        return {HYPER_PARAMETERS: {"fold": fold, "cohort_fold": number}}

    def get_score(self, *_args: object, **_kwargs: object) -> float:
        """The mean Dice of the best validation; 0 if none told one network from another."""
        progress = Path(self.output_path) / "progress.yaml"
        return float(ConfigParser.load_config_file(str(progress))[-1]["best_avg_dice_score"])

    def _create_cmd(self, train_params: dict[str, Any] | None = None) -> tuple[str, str]:
        """The command of the training, by this Python and in one process."""
        before = dict(self.device_setting)
        prefix = str(before.get("CMD_PREFIX") or "") or (sys.executable if " " not in sys.executable else "")
        self.device_setting |= {"n_devices": 1, "NUM_NODES": 1, "CMD_PREFIX": prefix}
        try:
            command: tuple[str, str] = super()._create_cmd(train_params)
        finally:
            self.device_setting = before
        return command

    def _run_cmd(self, cmd: str, devices_info: str = "") -> Any:  # noqa: ANN401 - MONAI's
        before = dict(self.device_setting)
        first = str(before.get("CUDA_VISIBLE_DEVICES", "")).split(",")[0]
        self.device_setting |= {"n_devices": 1, "NUM_NODES": 1, "CUDA_VISIBLE_DEVICES": first}
        try:
            return super()._run_cmd(cmd, devices_info)
        finally:
            self.device_setting = before
