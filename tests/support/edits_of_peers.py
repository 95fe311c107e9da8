"""Edits of a segmentation by slicerio, SimpleITK, nibabel, highdicom, rt-utils, plastimatch: by a Python with them.

    python edits_of_peers.py SEGMENTATION SERIES OUT

reads the `.seg.nrrd` of volseg and the DICOM series of its image, and writes `OUT/KIND-WRITER/edit.*` for each kind of
edit. In each a block of voxels is added to the second region; `block` says which, and no other region has them.
"""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = (slice(9, 12), slice(1, 4), slice(2, 5))
CROP = (slice(1, -1), slice(1, None), slice(1, -1))
PAD = ((2, 1), (0, 3), (1, 2))


def block(shape: tuple[int, ...]) -> np.ndarray:
    """The voxels that each edit adds to the second region."""
    mask = np.zeros(shape, bool)
    mask[BLOCK] = True
    return mask


class Slicerio:
    """The file as slicerio has it."""

    def __init__(self, path: Path) -> None:
        import slicerio

        self.library = slicerio
        self.read = slicerio.read_segmentation(str(path))
        self.names = [one["name"] for one in self.read["segments"]]
        self.masks = {name: self.mask(self.read, name) for name in self.names}
        self.masks[self.names[1]] |= block(self.masks[self.names[1]].shape)

    def mask(self, read: Any, name: str) -> np.ndarray:
        one = self.library.segment_from_name(read, name)
        layers = read["voxels"] if read["voxels"].ndim == 4 else read["voxels"][None]
        return layers[int(one.get("layer", 0))] == one["labelValue"]

    def again(self, masks: dict[str, np.ndarray], *, layers: bool = False, grid: np.ndarray | None = None) -> Any:
        """A segmentation of these masks: as few layers as slicerio needs, or one for each segment."""
        affine = np.array(self.read["ijkToLPS"]) if grid is None else grid
        shape = next(iter(masks.values())).shape
        made = self.library.create_segmentation(shape, affine)
        facts = {one["name"]: one for one in self.read["segments"]}
        if layers:
            made["voxels"] = np.stack([mask.astype(np.uint8) for mask in masks.values()])
        for number, (name, mask) in enumerate(masks.items()):
            told = copy.deepcopy(facts.get(name, {"name": name, "id": f"New_{number}"}))
            if layers:
                made.setdefault("segments", []).append({**told, "labelValue": 1, "layer": number})
                made["segments"][-1].pop("extent", None)
            else:
                self.library.add_segment(made, mask, told)
        return made

    def write(self, place: Path, segmentation: Any) -> None:
        place.mkdir(parents=True)
        self.library.write_segmentation(str(place / "edit.seg.nrrd"), segmentation)


def by_slicerio(path: Path, out: Path) -> None:
    """Each kind that a `.seg.nrrd` can hold."""
    file = Slicerio(path)
    first, second = file.names[:2]
    affine = np.array(file.read["ijkToLPS"])

    def named(kind: str, change: Callable[[Any], object]) -> None:
        made = file.again(file.masks)
        change(made)
        file.write(out / f"{kind}-slicerio", made)

    def segment(made: Any, name: str) -> Any:
        return next(one for one in made["segments"] if one["name"] == name)

    named("rename", lambda made: segment(made, second).update(name="corrected by hand"))
    named("respell", lambda made: [one.update(name=one["name"].replace("_", " ").title()) for one in made["segments"]])
    named("recolour", lambda made: segment(made, second).update(color=[0.1, 0.9, 0.3], status="completed"))
    named("reorder", lambda made: made["segments"].reverse())
    named("swap", lambda made: _swap(segment(made, first), segment(made, second)))
    file.write(out / "delete-slicerio", file.again({k: v for k, v in file.masks.items() if k != first}))
    new = np.zeros_like(file.masks[first])
    new[2:6, 2:5, 2:4] = True
    file.write(out / "add-slicerio", file.again({**file.masks, "Segment_9": new}))
    moved = affine.copy()
    moved[:3, 3] = (affine @ [1, 1, 1, 1])[:3]
    file.write(out / "crop-slicerio", file.again({k: v[CROP] for k, v in file.masks.items()}, grid=moved))
    moved = affine.copy()
    moved[:3, 3] = (affine @ [*(-low for low, _ in PAD), 1])[:3]
    file.write(out / "pad-slicerio", file.again({k: np.pad(v, PAD) for k, v in file.masks.items()}, grid=moved))
    shape = new.shape
    turned = affine @ np.array([[-1, 0, 0, shape[0] - 1], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    flipped = {k: np.ascontiguousarray(v[::-1].transpose(0, 2, 1)) for k, v in file.masks.items()}
    file.write(out / "flip-slicerio", file.again(flipped, grid=turned))
    file.write(out / "layer-slicerio", file.again(file.masks, layers=True))


def _swap(one: Any, other: Any) -> None:
    """Two names change places: the voxels keep their colours and codes, as in Slicer's list of segments."""
    one["name"], other["name"] = other["name"], one["name"]


def by_simpleitk(path: Path, out: Path) -> None:
    """The same by SimpleITK, which knows nothing of segments: it keeps the header's words."""
    import SimpleITK as sitk  # noqa: N813 - as its own documents do

    image = sitk.ReadImage(str(path))
    count = image.GetNumberOfComponentsPerPixel()
    layers = [sitk.VectorIndexSelectionCast(image, n) for n in range(count)] if count > 1 else [image]
    layers = [sitk.Image(layer) for layer in layers]
    for layer in layers:
        for key in layer.GetMetaDataKeys():
            layer.EraseMetaData(key)
    keys = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    facts = []
    while f"Segment{len(facts)}_ID" in keys:
        start = f"Segment{len(facts)}_"
        facts.append({key[len(start) :]: value for key, value in keys.items() if key.startswith(start)})
    layer, value = int(facts[1]["Layer"]), int(facts[1]["LabelValue"])
    x, y, z = BLOCK
    layers[layer][x, y, z] = value  # SimpleITK counts x, y, z as volseg does

    def write(kind: str, layers: list[Any], facts: list[dict[str, str]]) -> None:
        made = sitk.Compose(layers) if len(layers) > 1 else sitk.Image(layers[0])
        words = {key: text for key, text in keys.items() if not key.startswith("Segment") or "_" not in key[:9]}
        words |= {key: text for key, text in keys.items() if key.startswith("Segmentation_")}
        words = {key: text for key, text in words.items() if not key[:8].startswith("Segment") or key[7] == "a"}
        words |= {f"Segment{n}_{fact}": text for n, one in enumerate(facts) for fact, text in one.items()}
        for key in made.GetMetaDataKeys():
            made.EraseMetaData(key)
        for key, text in words.items():
            made.SetMetaData(key, text)
        place = out / f"{kind}-simpleitk"
        place.mkdir(parents=True)
        sitk.WriteImage(made, str(place / "edit.seg.nrrd"), True)

    def changed(number: int, **words: str) -> list[dict[str, str]]:
        return [{**one, **words} if n == number else dict(one) for n, one in enumerate(facts)]

    write("rename", layers, changed(1, Name="corrected by hand"))
    write("respell", layers, [{**one, "Name": one["Name"].replace("_", " ").title()} for one in facts])
    write("recolour", layers, changed(1, Color="0.1 0.9 0.3"))
    write("reorder", layers, facts[::-1])
    write("swap", layers, [{**facts[0], "Name": facts[1]["Name"]}, {**facts[1], "Name": facts[0]["Name"]}, *facts[2:]])
    gone = [layer * sitk.Cast(layer != int(facts[0]["LabelValue"]), layer.GetPixelID()) for layer in layers]
    kept = [gone[n] if n == int(facts[0]["Layer"]) else layers[n] for n in range(len(layers))]
    write("delete", kept, facts[1:])
    new = sitk.Image(layers[0].GetSize(), layers[0].GetPixelID())
    new.CopyInformation(layers[0])
    new[2:6, 2:5, 2:4] = 1
    added = {
        **facts[0],
        "ID": "Segment_9",
        "Name": "Segment_9",
        "Layer": str(len(layers)),
        "LabelValue": "1",
        "Tags": "",
    }
    write("add", [*layers, new], [*facts, added])
    write("crop", [layer[1:-1, 1:, 1:-1] for layer in layers], facts)
    low, high = [a for a, _ in PAD], [b for _, b in PAD]
    write("pad", [sitk.ConstantPad(layer, low, high, 0) for layer in layers], facts)
    write("flip", [sitk.PermuteAxes(sitk.Flip(layer, [True, False, False]), [0, 2, 1]) for layer in layers], facts)
    apart = [sitk.Cast(layers[int(one["Layer"])] == int(one["LabelValue"]), sitk.sitkUInt8) for one in facts]
    write("layer", apart, [{**one, "Layer": str(n), "LabelValue": "1"} for n, one in enumerate(facts)])


def nifti(path: Path, out: Path) -> None:
    """One label map, as Slicer exports it: values by place, the last segment wins, names in a table beside it."""
    import nibabel
    import SimpleITK as sitk  # noqa: N813 - as its own documents do

    file = Slicerio(path)
    label = np.zeros(file.masks[file.names[0]].shape, np.uint8)
    for number, mask in enumerate(file.masks.values(), start=1):
        label[mask] = number
    source = sitk.ReadImage(str(path))
    if source.GetNumberOfComponentsPerPixel() > 1:
        source = sitk.VectorIndexSelectionCast(source, 0)
    image = sitk.GetImageFromArray(label.T)
    image.CopyInformation(source)
    rows = "".join(f"{number},{name},230,159,0,255\n" for number, name in enumerate(file.names, start=1))
    for kind in ("nifti", "nifti_untold"):
        place = out / f"{kind}-simpleitk"
        place.mkdir(parents=True)
        sitk.WriteImage(image, str(place / "edit.nii.gz"), True)
        if kind == "nifti":
            (place / "labels.csv").write_text("LabelValue,Name,Color_R,Color_G,Color_B,Color_A\n" + rows)
    lps = np.array(file.read["ijkToLPS"])
    named = nibabel.Nifti1Image(label, np.diag([-1, -1, 1, 1]) @ lps)
    xml = "".join(
        f'<Label Key="{n}" Red="1" Green="0" Blue="0" Alpha="1">{k}</Label>' for n, k in enumerate(file.names, 1)
    )
    xml = f"<CaretExtension><VolumeInformation><LabelTable>{xml}</LabelTable></VolumeInformation></CaretExtension>"
    named.header.extensions.append(nibabel.nifti1.Nifti1Extension(0, xml.encode()))
    (out / "nifti-nibabel").mkdir()
    named.to_filename(out / "nifti-nibabel" / "edit.nii.gz")


def series_of(path: Path, series: Path) -> tuple[list[str], dict[str, np.ndarray], Slicerio]:
    """The files of the series in SimpleITK's order, and the masks [slice, row, column] of the segments on it."""
    import SimpleITK as sitk  # noqa: N813 - as its own documents do

    reader = sitk.ImageSeriesReader()
    files = list(reader.GetGDCMSeriesFileNames(str(series)))
    reader.SetFileNames(files)
    target = reader.Execute()
    file = Slicerio(path)
    lps = np.array(file.read["ijkToLPS"])
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    placed = {}
    for name, mask in file.masks.items():
        image = sitk.GetImageFromArray(mask.astype(np.uint8).T)
        image.SetOrigin(lps[:3, 3].tolist())
        image.SetSpacing(spacing.tolist())
        image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
        on = sitk.Resample(image, target, sitk.Transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
        placed[name] = sitk.GetArrayFromImage(on) > 0
        if placed[name].sum() != mask.sum():
            raise SystemExit(f"{name} has {mask.sum()} voxels, and {placed[name].sum()} on the series")
    return files, placed, file


def dicom(path: Path, series: Path, out: Path) -> None:
    """DICOM SEG by highdicom (bits; a label map where nothing overlaps), and RTSTRUCT by rt-utils."""
    import highdicom
    import pydicom
    from rt_utils import RTStructBuilder

    files, masks, file = series_of(path, series)
    images = [pydicom.dcmread(one) for one in files]
    stack = np.stack(list(masks.values()), axis=-1)
    category = highdicom.sr.CodedConcept("123037004", "SCT", "Anatomical Structure")
    told = []
    for number, one in enumerate(file.read["segments"], start=1):
        scheme, value, meaning = one["terminology"]["type"]
        told.append(
            highdicom.seg.SegmentDescription(
                number, one["name"], category, highdicom.sr.CodedConcept(value, scheme, meaning), "MANUAL"
            )
        )
    overlap = bool((stack.sum(axis=-1) > 1).any())
    flat = sum((np.uint8(n + 1) * stack[..., n] for n in range(stack.shape[-1])), np.zeros(stack.shape[:3], np.uint8))
    kinds = {"seg": ("BINARY", stack.astype(np.uint8))}
    if not overlap:
        kinds["seg_labelmap"] = ("LABELMAP", flat)
    uid = highdicom.UID
    for kind, (form, pixels) in kinds.items():
        place = out / f"{kind}-highdicom"
        place.mkdir(parents=True)
        made = highdicom.seg.Segmentation(
            images, pixels, form, told, uid(), 100, uid(), 1, "test", "test", "1", "1", omit_empty_frames=False
        )
        made.save_as(place / "edit.dcm")
    place = out / "rtstruct-rt_utils"
    place.mkdir(parents=True)
    drawn = RTStructBuilder.create_new(str(series))
    for name, mask in masks.items():
        # rt-utils sorts slices by their place along the normal, as SimpleITK does.
        drawn.add_roi(mask=mask.transpose(1, 2, 0), name=name, approximate_contours=False)
    drawn.save(str(place / "edit.dcm"))


def by_plastimatch(path: Path, series: Path, out: Path) -> None:
    """RTSTRUCT by plastimatch, which draws around a mask image of each structure; the image's name is the name."""
    import SimpleITK as sitk  # noqa: N813 - as its own documents do

    files, masks, _ = series_of(path, series)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    target = reader.Execute()
    with tempfile.TemporaryDirectory() as made:
        Path(made, "masks").mkdir()
        for name, mask in masks.items():
            image = sitk.GetImageFromArray(mask.astype(np.uint8))
            image.CopyInformation(target)
            sitk.WriteImage(image, f"{made}/masks/{name}.nrrd")
        program = Path(sys.executable).parent / "plastimatch"
        words = ["--input-prefix", f"{made}/masks", "--referenced-ct", str(series), "--output-dicom", f"{made}/dicom"]
        subprocess.run([program, "convert", *words], check=True, capture_output=True)
        (drawn,) = (one for one in Path(made, "dicom").iterdir() if "rtss" in one.name.lower())
        place = out / "rtstruct-plastimatch"
        place.mkdir(parents=True)
        shutil.copyfile(drawn, place / "edit.dcm")


def main() -> None:
    """Write all edits."""
    path, series, out = map(Path, sys.argv[1:])
    by_slicerio(path, out)
    by_simpleitk(path, out)
    nifti(path, out)
    dicom(path, series, out)
    by_plastimatch(path, series, out)


if __name__ == "__main__":
    main()
