"""The options that say which networks segment, how, and where: the same for every command that segments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from volseg.jobs import Predicting
    from volseg.labels import Cleanup


MARGIN_MM = 10.0

_DECISIONS = ("auto", "threshold", "dice")


@dataclass(frozen=True)
class NetworkOptions:
    """The options, each declared for typer, see `with_network_options`."""

    checkpoint: list[Path] = typer.Option(
        [],
        help="The trained network; the bundle's own by default. Several, or a folder of runs, make an ensemble.",
    )
    also: list[str] = typer.Option(
        [],
        "--with",
        metavar="BUNDLE[=CHECKPOINT]",
        help="A further bundle, whose network joins the ensemble; may be repeated.",
    )
    device: str | None = typer.Option(None, help="cpu, cuda, cuda:1, ...; the best by default.")
    overlap: float = typer.Option(0.5, min=0, max=0.9, help="Share of a window that its neighbour covers, 0 to 0.9.")
    precision: str = typer.Option(
        "auto", help="fp32, bf16, int8 (of a package that holds it), or auto: what the hardware does well."
    )
    engine: str = typer.Option(
        "auto", help="torch; compiled, openvino: on the CPU; auto: the fastest in a short trial."
    )
    memory: str | None = typer.Option(
        None, metavar="AMOUNT", help="Memory that a prediction may take, as 8GiB; what is free by default."
    )
    flips: str = typer.Option(
        "none", help="Mirror images that are predicted too: none; axes, as 0 or 0,1; trained: those of the training."
    )
    crop_first: bool = typer.Option(
        False,
        "--crop-first",
        help="Look at half the resolution first, and compute windows only where a region may be; a note tells what was "
        "skipped.",
    )
    skip: bool = typer.Option(True, "--skip-empty/--no-skip-empty", help="Leave out windows that hold one value only.")
    within: str | None = typer.Option(
        None,
        metavar="BUNDLE[=CHECKPOINT]|FOLDER",
        help="Predict only within the region that this bundle's network finds, or that these label maps hold.",
    )
    region: list[str] = typer.Option(
        [], metavar="NAME[,NAME]", help="Of --within: the regions of the first step; all by default."
    )
    margin_mm: float = typer.Option(
        MARGIN_MM, min=0, help="Of --within: margin around the region, in mm, that the network sees too."
    )
    outside: str = typer.Option("keep", help="Of --within: what becomes of the image beyond the margin: keep or erase.")
    keep_margin: bool = typer.Option(
        False, "--keep-margin", help="Of --within: keep what is found in the margin, not only in the region."
    )
    absent: str = typer.Option(
        "fail",
        help="Of --within: what a case without the region does: fail, or empty for a prediction without a voxel.",
    )
    decision: str = typer.Option(
        "auto",
        help="threshold: voxels above 0.5, or the largest channel; dice: the voxels whose expected Dice is largest; "
        "auto: what the calibration chose for each region, threshold without one.",
    )
    calibrated: bool = typer.Option(
        True,
        "--calibration/--no-calibration",
        help="Use calibration.json beside the checkpoint, if there is one: bounds of Dice and volume, and decisions.",
    )
    save_probabilities: bool = typer.Option(
        False, help="Also write probabilities/KEY.nii.gz, with a channel per class."
    )
    fill_holes: list[str] = typer.Option([], metavar="NAME[,NAME]", help="Clean-up: fill cavities of these regions.")
    min_ml: list[str] = typer.Option(
        [], metavar="NAME=ML", help="Clean-up: remove parts of a region below this volume in ml."
    )
    keep_largest: list[str] = typer.Option(
        [], metavar="NAME[,NAME]", help="Clean-up: of these regions only the largest part stays."
    )

    stored_cleanup: bool = typer.Option(
        True,
        "--stored-cleanup/--no-stored-cleanup",
        help="Clean-up: what `volseg crossval` chose for an ensemble folder, unless another is asked for.",
    )

    @property
    def cleanup(self) -> Cleanup:
        """The clean-up of a label map."""
        from volseg.labels import Cleanup

        return Cleanup.parse(fill_holes=self.fill_holes, min_ml=self.min_ml, keep_largest=self.keep_largest)

    def asked(self, bundle: str) -> Predicting:
        """What makes the predictor, before its weights and mirror images are known.

        Raises:
            UsageError: An option needs another one that is absent.
            BundleError: There is no such bundle.
            CheckpointError: There is no such checkpoint.
        """
        from volseg import bundle as bundles
        from volseg.bundle import members_of, named_ensemble
        from volseg.errors import UsageError
        from volseg.inference import RegionOfInterest, parse_bytes
        from volseg.jobs import Predicting

        if self.decision not in _DECISIONS:
            raise UsageError(f"--decision must be {' or '.join(_DECISIONS)}, got {self.decision!r}")
        members = members_of(bundle, self.checkpoint, self.also)
        for name, _ in members:
            bundles.config(bundles.find(name), "inference.json")
        overrides: dict[str, object] = {"overlap": self.overlap, "precision": self.precision}
        # Only what differs from the default, so that bundles which do not know these settings still work.
        overrides |= {} if self.skip else {"skip_empty": False}
        cleanup, ensemble = self.cleanup, named_ensemble(bundle, self.checkpoint)
        if ensemble is not None and self.stored_cleanup and not cleanup:
            cleanup = ensemble.cleanup
        overrides |= {"cleanup": cleanup.to_json()} if cleanup else {}
        overrides |= {} if self.decision == "auto" else {"decision": self.decision}
        overrides |= {"save_probabilities": True} if self.save_probabilities else {}
        step = None
        if self.within is not None:
            step = RegionOfInterest.parse(
                self.within,
                regions=self.region,
                margin_mm=self.margin_mm,
                outside=self.outside,
                keep_margin=self.keep_margin,
                absent=self.absent,
            )
        elif self != replace(self, region=[], margin_mm=MARGIN_MM, keep_margin=False, outside="keep", absent="fail"):
            raise UsageError(
                "--region, --margin-mm, --outside, --keep-margin and --absent need --within, which says where to look"
            )
        memory = None if self.memory is None else parse_bytes(self.memory)
        return Predicting(
            members,
            self.device,
            self.engine,
            overrides,
            step=step,
            calibrated=self.calibrated,
            memory=memory,
            crop_first=self.crop_first,
        )


def with_network_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `NetworkOptions` in the place of its parameter `options`, which gets them."""
    hints, hints_of_options = get_type_hints(command, include_extras=True), get_type_hints(NetworkOptions)
    names = [field.name for field in fields(NetworkOptions)]

    @functools.wraps(command)
    def merged(**given: Any) -> None:  # noqa: ANN401 - what typer has parsed
        options = NetworkOptions(**{name: given.pop(name) for name in names})
        command(**given, options=options)

    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name != "options":
            parameters.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        parameters += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=hints_of_options[field.name],
            )
            for field in fields(NetworkOptions)
        ]
    merged.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    merged.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return merged
