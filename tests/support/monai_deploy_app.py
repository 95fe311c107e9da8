"""Run by a Python with MONAI Deploy App SDK: its own operators read a DICOM series and run a package; writes a .npy."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from typing import Any

import monai
import numpy as np
import pydicom.uid  # noqa: F401 - before holoscan, which changes how libraries are loaded

# The SDK installs itself into the folder of `monai`, which may be another one than that which is imported.
monai.__path__.append(str(Path(sysconfig.get_paths()["purelib"]) / "monai"))

from holoscan.conditions import CountCondition  # noqa: E402
from monai.deploy.core import AppContext, Application, Fragment, Operator, OperatorSpec  # noqa: E402
from monai.deploy.core.domain import Image  # noqa: E402
from monai.deploy.core.io_type import IOType  # noqa: E402
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator  # noqa: E402
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator  # noqa: E402
from monai.deploy.operators.dicom_series_to_volume_operator import DICOMSeriesToVolumeOperator  # noqa: E402
from monai.deploy.operators.monai_bundle_inference_operator import (  # noqa: E402
    IOMapping,
    MonaiBundleInferenceOperator,
)

PACKAGE, DICOM, OUTPUT, HOW = sys.argv[1:]


class Writer(Operator):
    """Keeps the segmentation (slice, row, column) as an array (X, Y, Z)."""

    def __init__(self, fragment: Fragment, *args: Any, **kwargs: Any) -> None:
        self._fragment = fragment
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("pred")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        keep(op_input.receive("pred"))


def keep(image: Image) -> None:
    np.save(OUTPUT, np.swapaxes(image.asnumpy(), 0, 2))


def operator(app: Application, **more: Any) -> MonaiBundleInferenceOperator:
    return MonaiBundleInferenceOperator(
        app,
        app_context=AppContext({}),
        input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
        output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
        bundle_path=PACKAGE,
        name="bundle",
        **more,
    )


class Whole(Application):
    """DICOM folder, series, volume, package."""

    def compose(self) -> None:
        once = CountCondition(self, 1)
        loader = DICOMDataLoaderOperator(self, once, input_folder=Path(DICOM), name="loader")
        selector = DICOMSeriesSelectorOperator(self, rules="", name="selector")
        volume = DICOMSeriesToVolumeOperator(self, name="volume")
        bundle, writer = operator(self), Writer(self, name="writer")
        self.add_flow(loader, selector, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(selector, volume, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(volume, bundle, {("image", "image")})
        self.add_flow(bundle, writer, {("pred", "pred")})


class Ports:
    """An image from memory, as the ports of a graph give and take it."""

    def __init__(self, image: Image | None = None) -> None:
        self.image = image

    def receive(self, _: str) -> Image | None:
        return self.image

    def get(self, _: str) -> None:
        return None

    def emit(self, value: Image, _: str) -> None:
        keep(value)


if HOW == "graph":
    Whole([]).run()
else:
    app = Application([])
    loader = DICOMDataLoaderOperator(app, input_folder=Path(DICOM), name="loader")
    selector = DICOMSeriesSelectorOperator(app, rules="", name="selector")
    selected = selector.filter(None, loader.load_data_to_studies(Path(DICOM)))
    image = DICOMSeriesToVolumeOperator(app, name="volume").convert_to_image(selected)
    operator(app).compute(Ports(image), Ports(), None)
