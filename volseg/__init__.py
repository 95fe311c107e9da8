"""volseg: volumetric medical image segmentation on MONAI, from slices to a Dice report."""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar, cast

__version__ = "0.1.0"

_Function = TypeVar("_Function", bound=Callable[..., Any])

# The rooms, opened at first use: `import volseg` is instant, and a bundle's JSON reaches all of them by one import.
_ROOMS = frozenset(
    {"bundle", "calibration", "cohort", "crossval", "datasets", "deploy", "dicom", "errors", "evaluation"}
    | {"files", "formats", "inference", "jobs", "labels", "metrics", "networks"}
    | {"pictures", "plan", "remote", "report", "training", "transforms", "volume"}
)

# Modules of version 0.1 below `volseg` and where their names are now; for one minor version they can still be imported.
_MOVED = {
    "app": "deploy.demo",
    "app.answer": "deploy.demo.answer",
    "app.archive": "deploy.demo.uploaded_zip",
    "app.image_check": "deploy.demo.image_check",
    "app.page": "deploy.demo.page",
    "app.run": "deploy.demo.run",
    "app.segmentation": "deploy.demo.segmentation",
    "app.server": "deploy.demo.server",
    "app.session": "deploy.demo.session",
    "app.slices": "deploy.demo.slices",
    "app.space": "deploy.demo.space",
    "app.upload": "deploy.demo.upload",
    "app.words": "deploy.demo.page",
    "bundle": "bundle.folder plan.window plan.spacing",
    "case": "cohort.case",
    "case_table": "cohort.table",
    "cleanup": "labels.cleanup",
    "cohort": "cohort.folder cohort.predictions",
    "comparison": "evaluation.comparison",
    "conversion": "cohort.conversion datasets.embedded",
    "crop": "volume.crop",
    "decision": "transforms.decision",
    "engines": "inference.engines",
    "engines.batch_norm": "inference.engines.batch_norm",
    "engines.choice": "inference.engines.choice",
    "engines.convolutions": "inference.engines.convolutions",
    "engines.engine": "inference.engines.engine",
    "engines.lanes": "inference.engines.parallel_windows",
    "engines.openvino": "inference.engines.openvino inference.engines.openvino_runtime",
    "engines.precision": "inference.engines.precision",
    "engines.pytorch": "inference.engines.pytorch",
    "evaluation": "evaluation.case cohort.predictions cohort.reading",
    "export": "formats dicom datasets",
    "export.dicom_seg": "dicom.segmentation",
    "export.dicom_target": "dicom.target dicom.export",
    "export.kaggle": "formats.kaggle",
    "export.outlines": "dicom.outlines",
    "export.rtstruct": "dicom.rtstruct",
    "export.slice_grid": "formats.slice_grid",
    "export.slicer": "formats.slicer",
    "export.slices": "formats.uw_madison_writer",
    "fetch": "datasets",
    "fetch.archive": "datasets.archive",
    "fetch.catalogue": "datasets.catalogue",
    "fetch.fetching": "datasets.fetching",
    "fetch.kaggle": "datasets.kaggle",
    "fetch.space": "datasets.space",
    "fetch.transfer": "datasets.transfer",
    "first_step": "inference.region_of_interest",
    "inference.first_step": "inference.region_of_interest",
    "inference.two_step": "inference.cascade",
    "fleet": "jobs",
    "fleet.audit": "jobs.journal",
    "fleet.command": "jobs.command",
    "fleet.converting": "jobs.converting",
    "fleet.crew": "jobs.workers",
    "fleet.evaluating": "jobs.evaluating",
    "fleet.job": "jobs.job",
    "fleet.journal": "jobs.journal",
    "fleet.networks": "jobs.networks",
    "fleet.pipeline": "jobs.pipeline",
    "fleet.predicting": "jobs.predicting",
    "fleet.processes": "jobs.processes",
    "fleet.ray_cluster": "jobs.ray_workers",
    "fleet.report": "jobs.report",
    "fleet.run": "jobs.run",
    "fleet.shard": "jobs.options",
    "fleet.team": "jobs.options",
    "folds": "cohort.folds",
    "geometry": "volume.geometry",
    "illustration": "pictures.illustration",
    "inference.device": "inference.engines.hardware inference.engines.memory",
    "inference.failure": "errors",
    "inference.precision": "inference.engines.precision",
    "inference.prediction": "cohort.predictions",
    "inspection": "cohort.inspection",
    "labels": "labels.regions labels.table labels.encoding labels.terms",
    "members": "bundle.ensemble_members",
    "memory": "inference.engines.memory",
    "method": "evaluation.scores",
    "native": "transforms.native_grid",
    "bundle.spacing": "plan.spacing",
    "bundle.window": "plan.window",
    "networks": "plan.pyramid",
    "networks.pyramid": "plan.pyramid",
    "norms": "evaluation.outliers",
    "packing": "deploy.pack",
    "packing.archive": "deploy.pack.package_zip",
    "packing.exports": "deploy.pack.exports",
    "packing.metadata": "deploy.pack.metadata deploy.pack.configs bundle.public_facts",
    "packing.package": "deploy.pack.package",
    "packing.page": "deploy.pack.page",
    "png": "formats.png",
    "probabilities": "volume.probabilities",
    "process": "cli.process",
    "quality": "evaluation.quality",
    "raster": "volume.image_slice",
    "recipe": "bundle.recipe",
    "region_row": "evaluation.region",
    "remote.lock": "files.lock",
    "remote.trouble": "remote.messages",
    "report.animation": "pictures.animation",
    "report.case_picture": "pictures.case_picture",
    "report.curve": "pictures.dice_curve",
    "report.files": "report.cells",
    "report.picture": "pictures.rendering",
    "report.screen": "pictures.case_view",
    "report.sheet": "pictures.layout",
    "report.snapshot": "pictures.snapshot",
    "report.view": "pictures.orientation",
    "report.viewer": "pictures.viewer",
    "rle": "formats.rle",
    "row": "evaluation.scores",
    "scene": "pictures.case cohort.reading",
    "sources": "formats dicom datasets",
    "sources.anatomy": "datasets.anatomy",
    "sources.decathlon": "formats.decathlon",
    "sources.dicom": "dicom.source",
    "sources.dicom_contours": "dicom.contours",
    "sources.dicom_file": "dicom.file",
    "sources.dicom_identity": "dicom.identity",
    "sources.dicom_image": "dicom.image",
    "sources.dicom_index": "dicom.index dicom.instance",
    "sources.dicom_labels": "dicom.labels dicom.names dicom.drawing dicom.matching dicom.matches",
    "sources.dicom_list": "dicom.series_list",
    "sources.dicom_pixels": "dicom.pixels",
    "sources.dicom_segments": "dicom.segments",
    "sources.dicom_stack": "dicom.stack",
    "sources.image_file": "formats.image_file",
    "sources.image_masks": "formats.image_masks",
    "sources.image_pairs": "formats.image_pairs",
    "sources.image_pattern": "formats.image_pattern",
    "sources.images": "formats.images",
    "sources.phantom": "datasets.phantom",
    "sources.train_csv": "formats.train_csv",
    "sources.tube": "datasets.tube",
    "sources.uw_madison": "formats.uw_madison",
    "training.average": "training.handlers.optimization",
    "training.cached_dataset": "training.cache.dataset",
    "training.capacity": "training.checks.capacity",
    "training.checkpoints": "training.handlers.checkpoints",
    "training.deep_supervision": "training.losses",
    "training.dice": "training.handlers.validation",
    "training.fingerprint": "training.cache.fingerprint",
    "training.gradients": "training.handlers.optimization",
    "training.loss": "training.losses",
    "training.mapped_case": "training.cache.mapped_case",
    "training.order": "training.sampling",
    "training.overrides": "training.checks.overrides",
    "training.parameter_groups": "training.optimizers",
    "training.patches": "transforms.pipelines",
    "training.patience": "training.handlers.stopping",
    "training.pictures": "training.handlers.pictures",
    "training.preflight": "training.checks.preflight",
    "training.progress": "training.handlers.progress",
    "training.provenance": "training.handlers.run_facts inference.engines.hardware inference.engines.memory",
    "training.ranks": "training.process_group",
    "training.record": "training.handlers.record",
    "training.resume": "training.handlers.resume",
    "training.schedule": "training.schedules",
    "training.seeds": "training.sampling",
    "training.stopwatch": "training.handlers.progress",
    "training.time_limit": "training.handlers.stopping",
    "training.trial": "training.window_trial",
    "training.validation": "training.handlers.validation",
    "training_run": "report.training_run",
    "transforms": "transforms.pipelines transforms.reading transforms.targets",
    "uncertainty": "cohort.uncertainty",
    "volume": "volume.nifti volume.volume files",
    "watch": "deploy.watch",
    "watch.inbox": "deploy.watch.inbox",
    "watch.item": "deploy.watch.item",
    "watch.ledger": "deploy.watch.ledger",
    "watch.segmenting": "deploy.watch.segmenting",
    "watch.watcher": "deploy.watch.watcher",
    "working_grid": "plan.spacing",
    "worklist": "inference.inputs inference.outputs inference.reading",
}

# Names that a room exported in version 0.1, and what they are called now; bundles and scripts of then still find them.
_RENAMED = {
    "evaluation": {
        "Method": "EvaluationSettings",
        "Norm": "ReferenceRange",
        "Row": "RegionScores",
        "jump": "area_jump",
        "region_row": "score_region",
        "surprise": "surprisal",
    },
    "inference": {
        "FirstStep": "RegionOfInterest",
        "Lanes": "ParallelWindows",
        "Meeting": "ThreadGroup",
        "Sight": "RoiMasks",
        "TwoStep": "CascadePredictor",
    },
    "jobs": {
        "Crew": "WorkerPool",
        "Place": "WorkerSlot",
        "RayCrew": "RayPool",
        "Tally": "RunResult",
        "Team": "WorkerOptions",
    },
    "pictures": {
        "Scene": "ReviewCase",
        "Screen": "CaseView",
        "read_scene": "read_review_case",
        "read_screen": "read_case_view",
        "sheet": "arrange_panels",
    },
    "training": {
        "Gradients": "GradientClipping",
        "Order": "BatchOrder",
        "Pictures": "ValidationPictures",
        "Seeds": "EpochSeeds",
        "better": "nan_safe_greater",
        "constant": "constant_schedule",
        "join": "init_process_group",
        "leave": "destroy_process_group",
        "parameters": "optimizer_groups",
    },
}


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return importlib.import_module(f"volseg.{name}")
    if name in _MOVED:  # without a warning: bundles of before say `$volseg.recipe...`
        return _EarlierModule(f"volseg.{name}")
    raise AttributeError(f"module 'volseg' has no attribute {name!r}")


def opened_at_first_use(names: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The `__getattr__` of a room whose modules load much: each is imported when one of its names is used.

    Args:
        names: Public names by the module that defines them.
    """
    module_of = {name: module for module, exported in names.items() for name in exported}

    def open_name(name: str) -> object:
        name = _RENAMED["inference"].get(name, name)
        if name in module_of:
            return getattr(importlib.import_module(module_of[name]), name)
        raise AttributeError(f"{name} is no public name of this room")

    return open_name


def names_of_before(module: str) -> Callable[[str], Any]:
    """The `__getattr__` of a room: names that it exported before, and those of an earlier module of the same name.

    Args:
        module: Its full name, such as `volseg.volume`.
    """
    earlier = _EarlierModule(module)
    return earlier.__getattr__


def method_of_before(name: str) -> Callable[..., Any]:
    """A method under its name of version 0.1, with a DeprecationWarning; for one minor version.

    Args:
        name: Name of the method today.
    """

    def call(self: object, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever the method takes
        warnings.warn(f"this method is now {type(self).__name__}.{name}", DeprecationWarning, stacklevel=2)
        return getattr(self, name)(*arguments, **options)

    return call


def keywords_of_before(**renamed: str) -> Callable[[_Function], _Function]:
    """Let a function take keywords of version 0.1 too, with a DeprecationWarning; for one minor version.

    Args:
        renamed: Name of a keyword today by its name of before.
    """

    def wrap(function: _Function) -> _Function:
        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever the function takes
            for before, now in renamed.items():
                if before in options:
                    warnings.warn(f"{before}= is now {now}=", DeprecationWarning, stacklevel=2)
                    options[now] = options.pop(before)
            return function(*arguments, **options)

        return cast("_Function", call)

    return wrap


class _EarlierModule(ModuleType):
    """A module of before: each of its names is looked up where it is now."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
        own = self.__name__.removeprefix("volseg.")
        if name in _RENAMED.get(own, {}):
            return getattr(importlib.import_module(self.__name__), _RENAMED[own][name])
        if not name.startswith("__"):
            for target in _MOVED.get(own, "").split():
                if f"volseg.{target}" != self.__name__:
                    module = importlib.import_module(f"volseg.{target}")
                    now = _RENAMED.get(target.partition(".")[0], {}).get(name, name)
                    for found in (name, now):
                        if hasattr(module, found):
                            return getattr(module, found)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _EarlierModules(MetaPathFinder, Loader):
    """Lets `import volseg.OLD` and `from volseg.OLD import name` work for the modules of before."""

    def find_spec(
        self,
        fullname: str,
        path: object = None,  # noqa: ARG002 - the signature of a finder
        target: object = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """The spec of a module of before; None of any other."""
        room, _, name = fullname.partition(".")
        if room != "volseg" or name not in _MOVED:
            return None
        now = " or ".join(f"volseg.{target}" for target in _MOVED[name].split())
        warnings.warn(f"{fullname} is now {now}; import from there", DeprecationWarning, stacklevel=2)
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Stands for the module until its names are looked up."""
        return _EarlierModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


sys.meta_path.append(_EarlierModules())
