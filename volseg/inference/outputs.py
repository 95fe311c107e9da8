"""Whether predictions may be written to a folder: nothing that is there may be lost or become untrue."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from volseg.cohort import FILE_ENDING, Predictions
from volseg.errors import UsageError
from volseg.files import ignores_case, read_json_object
from volseg.inference.file_names import some_names
from volseg.labels import LabelTable

_OF_A_COHORT = {"imagesTr", "imagesTs", "labelsTr", "labelsTs"}


def check_output(
    output_dir: Path,
    cases: Iterable[tuple[str, Sequence[Path]]],
    *,
    inputs: Path | None = None,
    labels: LabelTable | None = None,
) -> None:
    """Refuse to write predictions over images, over each other, or into a cohort, whose files have the same names.

    Args:
        output_dir: Folder of the predictions.
        cases: Pairs of a key and one file per channel.
        inputs: Path that `find_inputs` got; predictions may not go into a folder of DICOM files either.
        labels: Labels of the network; existing predictions of other labels that would stay are refused.

    Raises:
        UsageError: The folder holds an image of a case, is a cohort or one of its folders, or is the folder of the
            inputs; it holds label maps of these cases that volseg did not predict; two cases would be written to one
            file; or `dataset.json` would no longer be true of what is there.
    """
    cases = list(cases)
    place = output_dir.resolve()
    if inputs is not None and inputs.resolve() == place:
        raise UsageError(f"-o must be another folder than that of the images, got {output_dir}; name another one")
    if any(path.resolve().parent == place for _, images in cases for path in images):
        raise UsageError(
            f"-o must be another folder than that of the images, which predictions would replace, got {output_dir}; "
            "name another one"
        )
    if any((place / images).is_dir() for images in ("imagesTr", "imagesTs")):
        raise UsageError(
            f"-o must be no cohort, whose dataset.json would be replaced, got {output_dir}; name another folder"
        )
    if place.name in _OF_A_COHORT and (place.parent / "dataset.json").is_file():
        raise UsageError(
            f"-o must be no folder of a cohort, whose files would be replaced, got {output_dir}; name another folder"
        )
    check_apart(output_dir, cases)
    if not is_predicted(place):
        there = [f"{key}{FILE_ENDING}" for key, _ in cases if (place / f"{key}{FILE_ENDING}").is_file()]
        if there:
            raise UsageError(
                f"-o must hold no label maps that volseg did not predict, which predictions would replace, got "
                f"{output_dir} with some ({some_names(there)}); name another folder"
            )
    if labels is not None and (place / "dataset.json").is_file():
        before = Predictions(place)
        stay = sorted(set(before.keys()) - {key for key, _ in cases})
        if stay and _meaning(before.labels(option="-o")) != _meaning(labels):
            raise UsageError(
                f"-o must hold no predictions of other labels, got {output_dir} with some ({some_names(stay)}), of "
                "which its dataset.json would no longer be true; name another folder"
            )


def is_predicted(folder: Path) -> bool:
    """Whether `volseg predict` has written a folder: by a journal, or by a `dataset.json` that is none of a cohort.

    People and nnU-Net copy the `dataset.json` of a cohort beside label maps; only that one counts training cases.
    """
    if any((folder / ".volseg").glob("*.jsonl")):
        return True
    stated = read_json_object(folder / "dataset.json")
    return stated is not None and "volseg" in stated and "numTraining" not in stated


def check_apart(output_dir: Path, cases: Iterable[tuple[str, Sequence[Path]]]) -> None:
    """Refuse two cases that would be written to one file.

    Args:
        output_dir: Folder of the predictions; its file system decides whether upper and lower case differ.
        cases: Pairs of a key and one file per channel.

    Raises:
        UsageError: There are two such cases; the message names their images.
    """
    folded = ignores_case(output_dir)
    seen: dict[str, tuple[str, Sequence[Path]]] = {}
    for key, files in cases:
        name = unicodedata.normalize("NFC", key).casefold() if folded else key
        if name in seen:
            other, others = seen[name]
            one, two = _told_file(others, files), _told_file(files, others)
            raise UsageError(
                f"{one} and {two} would both be written to {other}{FILE_ENDING}; rename one, or predict them into two "
                "folders"
            )
        seen[name] = (key, files)


def _told_file(files: Sequence[Path], others: Sequence[Path]) -> str:
    """The first file of a case, with its folder if another case has a file of that name."""
    first = files[0]
    return str(first) if others and others[0].name == first.name else first.name


def _meaning(labels: LabelTable) -> dict[str, tuple[int, ...]]:
    """The values of label maps by region, whatever the order of the regions."""
    return {region.name: region.values for region in labels.regions}
