"""Segmentations for 3D Slicer: `.seg.nrrd` with names, colours and codes, and colour tables for NIfTI label maps.

The format is described in Slicer's developer guide, "Segmentations". Three points of it decide what is written here:

- Regions that share no voxel stand together in one layer, told apart by their LabelValue. Regions that overlap stand
  in different layers: the file then has a list axis first, then X, Y, Z.
- Slicer keeps one image a layer, and versions of it crop that image to the extent of the layer's first segment. So
  every segment carries the extent of its whole layer, as Slicer writes it, the empty ones too. Only where the whole
  layer is empty is the extent empty: 0 -1 on each axis.
- The reference image geometry keeps the whole grid known to the segment editor, whatever the extents are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from volseg.cohort import Predictions, Prepare, read_translated
from volseg.errors import LabelError, SourceError, UsageError, VolsegError
from volseg.files import FULL, atomic
from volseg.formats.segmentation_file import IMAGE_TAG, segment_id
from volseg.formats.value_names import ColourRow, colour_csv
from volseg.labels import ANATOMY, TISSUE, LabelMap, LabelMatch, LabelTable, Masks, Region
from volseg.volume import Affine, Volume, ras_to_lps

_SUFFIX = ".seg.nrrd"
_GZIP_LEVEL = 1
_EMPTY_EXTENT = (0, -1, 0, -1, 0, -1)


def write_segmentation(
    path: Path,
    label: Volume,
    labels: LabelTable,
    *,
    values: Sequence[int] | None = None,
    image: str = "",
) -> None:
    """Write a label map as a segmentation that 3D Slicer opens with names, colours and codes, whole or not at all.

    Every region of the table becomes a segment, in the table's order, the empty ones too. Voxels that nobody looked at
    are a segment named `ignore`, which `volseg adopt` takes back as such; without any there is none. The LabelValue of
    a region is its own value in the table, if it has one that no other region shares (see `segment_values`), in every
    file. Equal label maps give equal bytes.

    Args:
        path: `KEY.seg.nrrd`; Slicer knows a segmentation by this ending.
        label: (X, Y, Z) values that the table declares; the file keeps its grid.
        labels: Regions.
        values: LabelValue of each region; those of `segment_values` by default.
        image: Digest of the image, which each segment then bears as a tag, so that an edit can be told from one of
            another image; none by default.

    Raises:
        UsageError: The file has another ending.
        LabelError: The table does not declare a value, or the header cannot hold a name or code.

    >>> import tempfile
    >>> label = Volume(np.ones((2, 2, 2), np.uint8), np.diag([1.5, 1.5, 3, 1]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "case1.seg.nrrd"
    ...     write_segmentation(path, label, LabelTable.exclusive(["stomach"]))
    ...     print(path.read_bytes().decode(errors="replace").partition("kinds")[0])
    NRRD0004
    type: unsigned char
    dimension: 3
    space: left-posterior-superior
    sizes: 2 2 2
    space directions: (-1.5,0,0) (0,-1.5,0) (0,0,3)
    """
    from isal import igzip

    path = Path(path)
    if not path.name.endswith(_SUFFIX):
        raise UsageError(f"{path.name} does not end in {_SUFFIX}; Slicer knows a segmentation by this ending")
    if len(labels.regions) > 255:
        raise LabelError(f"the table has {len(labels.regions)} regions; a segmentation of bytes keeps at most 255")
    label_map, present = _checked(label, labels)
    digest = labels.digest
    values = segment_values(labels) if values is None else values
    if labels.ignore in present.tolist():
        labels = labels.with_ignored_region()
        values = _with_further(values, len(labels.regions))
    layer_of = _layers(labels.masks(present))
    # NRRD counts the first axis fastest: list, X, Y, Z. In C order that is [Z, Y, X, list].
    layers = _paint(np.ascontiguousarray(label_map.T), labels, layer_of, values)
    extents = [_extent(layer) for layer in layers]
    fields = [
        *_image_fields(label.shape, len(layers), label.affine_ras),
        *_segmentation_fields(label.shape, label.affine_ras),
        f"volseg_labels:={digest}",
    ]
    for number, (region, layer) in enumerate(zip(labels.regions, layer_of, strict=True)):
        fields += _segment_fields(number, region, layer, values[number], extents[layer], image)
    header = "\n".join(["NRRD0004", *fields, "", ""]).encode()
    data = np.stack(layers, axis=-1) if len(layers) > 1 else layers[0]
    with atomic(path) as partial:
        partial.write_bytes(header + igzip.compress(data, compresslevel=_GZIP_LEVEL, mtime=0))


def segment_values(labels: LabelTable) -> tuple[int, ...]:
    """The LabelValue of each region: what the cohort calls it, so that a label map saved from the file says the same.

    That is the least of its values that no other region shares. A region without one gets the next number above all
    values of the table, and below them if there is none.

    >>> segment_values(LabelTable.overlapping(["large_bowel", "small_bowel", "stomach"]))
    (1, 2, 4)
    >>> segment_values(LabelTable.of({"liver": 2, "spleen": 1}))
    (2, 1)
    >>> segment_values(LabelTable.of({"tumour": [1, 2], "core": 2}))
    (1, 3)
    """
    owners: dict[int, int] = {}
    for region in labels.regions:
        for value in region.values:
            owners[value] = owners.get(value, 0) + 1
    own = [min((value for value in region.values if owners[value] == 1), default=0) for region in labels.regions]
    top = max(labels.values)
    free = [*range(top + 1, 256), *(value for value in range(1, top + 1) if value not in own)]
    return tuple(value or free.pop(0) for value in own)


def write_colour_table(path: Path, labels: LabelTable) -> None:
    """Write the colours of a label map for Slicer: a row `index name R G B A` for each value, 0 to 255.

    A value that belongs to several regions is named after all of them and has their mean colour.

    Args:
        path: `.ctbl`.
        labels: Regions.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_colour_table(Path(folder) / "labels.ctbl", LabelTable.overlapping(["large_bowel", "stomach"]))
    ...     print((Path(folder) / "labels.ctbl").read_text())
    # Color table file labels.ctbl
    # 4 values
    0 background 0 0 0 0
    1 large_bowel 230 159 0 255
    2 stomach 204 121 167 255
    3 large_bowel+stomach 217 140 84 255
    """
    path = Path(path)
    rows = ["0 background 0 0 0 0"]
    for value, (name, (r, g, b), _) in _colour_rows(labels).items():
        word = "_".join(name.split()) or "_"  # a space would end the name
        rows.append(f"{value} {word} {r} {g} {b} 255")
    with atomic(path) as partial:
        lines = [f"# Color table file {path.name}", f"# {len(rows)} values", *rows, ""]
        partial.write_text("\n".join(lines), encoding="utf-8")


def write_colour_csv(path: Path, labels: LabelTable) -> None:
    """Write the colours of a label map for Slicer in the form that keeps names and terms, one row per value.

    Slicer turns each underscore of a `.ctbl` into a space and then finds no segment of that name; this form keeps it.

    Args:
        path: `.csv`.
        labels: Regions.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_colour_csv(Path(folder) / "labels.csv", LabelTable.exclusive(["large_bowel"]))
    ...     print((Path(folder) / "labels.csv").read_text().splitlines()[1])
    1,large_bowel,230,159,0,255,SCT,123037004,Anatomical Structure,SCT,14742008,Large intestine,,,,,,,,,
    """
    with atomic(path) as partial:
        partial.write_text(colour_csv(_colour_rows(labels)), encoding="utf-8")


def _colour_rows(labels: LabelTable) -> dict[int, ColourRow]:
    """Name, colour and terms of each value; one that belongs to several regions is named after all of them."""
    rows: dict[int, ColourRow] = {}
    for value in labels.values[1:]:
        owners = [region for region in labels.regions if value in region.values]
        r, g, b = np.mean([region.colour for region in owners], axis=0).round().astype(int).tolist()
        kind = owners[0].code if len(owners) == 1 else TISSUE
        category = kind if kind.value == TISSUE.value else ANATOMY
        terms = tuple((code.scheme, code.value, code.meaning) for code in (category, kind))
        rows[value] = ("+".join(region.name for region in owners), (r, g, b), (terms[0], terms[1]))
    return rows


def export_slicer(
    predictions: Path,
    out: Path,
    labels: LabelTable,
    *,
    match: LabelMatch | None = None,
    prepare: Prepare | None = None,
    keys: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[tuple[str, str]]:
    """Write `out/KEY.seg.nrrd` for every `predictions/KEY.nii.gz`, and `out/labels.csv` and `labels.ctbl` once.

    Args:
        predictions: Folder of label maps.
        out: Folder, made if it is absent; files of the same names are replaced.
        labels: Regions.
        match: Match of the predictions' own table with `labels`, whose values are written; None if they are the same.
        prepare: Function of the key, the label map and the regions, which adds regions to both, such as margins; the
            first regions must stay, and keep their LabelValue.
        keys: Keys of the cases to write.
        progress: Function that is called with (cases done, cases in all) after each case.

    Returns:
        (key, error) of each case that failed; the others are written.

    Raises:
        UsageError: The folder is absent or holds no label map.
        OSError: The disk is full.
    """
    there, out = Predictions.open(predictions), Path(out)
    keys = there.some_keys() if keys is None else keys
    write_colour_table(out / "labels.ctbl", labels)
    write_colour_csv(out / "labels.csv", labels)
    failures: list[tuple[str, str]] = []
    for done, key in enumerate(keys, start=1):
        try:
            if Path(key).name != key:
                raise SourceError(f"the case key {key!r} is no file name; name a prediction without its folder")
            table, values = labels, segment_values(labels)
            label = read_translated(there.path(key), match, target="a table without that label")
            if prepare is not None:
                label, table = prepare(key, label, labels)
                values = _with_further(values, len(table.regions))
            write_segmentation(out / f"{key}{_SUFFIX}", label, table, values=values)
        except VolsegError as error:
            failures.append((key, error.message))
        except OSError as error:
            if error.errno in FULL:  # the next one would fail likewise
                raise
            failures.append((key, f"{out / key}{_SUFFIX} cannot be written ({error})"))
        if progress is not None:
            progress(done, len(keys))
    return failures


def _with_further(values: Sequence[int], count: int) -> tuple[int, ...]:
    """The LabelValues of some regions, and free ones for those that follow."""
    free = [value for value in [*range(max(values) + 1, 256), *range(1, 256)] if value not in values]
    return (*values, *dict.fromkeys(free))[:count]


def _checked(label: Volume, labels: LabelTable) -> tuple[LabelMap, LabelMap]:
    """The label map as uint8, and the values that occur in it."""
    if label.voxels.dtype != np.uint8:
        label_map = labels.check(label.voxels)
        return label_map, np.unique(label_map)
    counts = np.bincount(label.voxels.ravel(order="K"), minlength=256)  # faster than np.unique, which sorts
    present = np.flatnonzero(counts)
    return label.voxels, labels.check(present)


def _layers(belongs: Masks) -> list[int]:
    """The layer of each region, so that no two regions of a layer share a value that occurs.

    DSATUR (Brélaz 1979, doi:10.1145/359094.359101): next comes the region whose overlapping regions already fill the
    most layers, then the one with the most overlapping regions; it takes the first layer that is free.

    Args:
        belongs: (R, V), whether a value that occurs belongs to a region.
    """
    counts = belongs.astype(np.int64)
    overlap = counts @ counts.T > 0  # (R, R)
    np.fill_diagonal(overlap, False)
    neighbours = [set(np.flatnonzero(row).tolist()) for row in overlap]
    layer_of: dict[int, int] = {}
    while len(layer_of) < len(neighbours):
        taken = {
            i: {layer_of[j] for j in near if j in layer_of} for i, near in enumerate(neighbours) if i not in layer_of
        }
        region = max(taken, key=lambda i: (len(taken[i]), len(neighbours[i]), -i))
        layer_of[region] = min(set(range(len(neighbours))) - taken[region])
    return [layer_of[i] for i in range(len(neighbours))]


def _paint(label_map: LabelMap, labels: LabelTable, layer_of: Sequence[int], values: Sequence[int]) -> list[LabelMap]:
    """One image a layer, of the label map's shape, that holds the LabelValue of each of its regions."""
    belongs = labels.masks(np.arange(256, dtype=np.uint8))  # (R, 256)
    tables = np.zeros((max(layer_of) + 1, 256), dtype=np.uint8)
    for number, layer in enumerate(layer_of):
        tables[layer, belongs[number]] = values[number]
    return [np.take(table, label_map) for table in tables]


def _extent(layer: LabelMap) -> tuple[int, ...]:
    """First and last index along X, Y, Z of what is not 0 in a layer [Z, Y, X]."""
    mask = layer.astype(bool)
    ends: list[int] = []
    for axis in (2, 1, 0):
        filled = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        if not filled.size:
            return _EMPTY_EXTENT
        ends += [int(filled[0]), int(filled[-1])]
    return tuple(ends)


def _image_fields(shape: Sequence[int], layers: int, affine_ras: Affine) -> Iterator[str]:
    affine_lps = ras_to_lps(affine_ras)
    listed = layers > 1
    yield "type: unsigned char"
    yield f"dimension: {3 + listed}"
    yield "space: left-posterior-superior"
    yield f"sizes: {_words([layers] * listed + list(shape))}"
    directions = [f"({_numbers(affine_lps[:3, axis], ',')})" for axis in range(3)]
    yield f"space directions: {_words(['none'] * listed + directions)}"
    yield f"kinds: {_words(['list'] * listed + ['domain'] * 3)}"
    yield "encoding: gzip"
    yield f"space origin: ({_numbers(affine_lps[:3, 3], ',')})"


def _segmentation_fields(shape: Sequence[int], affine_ras: Affine) -> Iterator[str]:
    ends = "".join(f"0;{size - 1};" for size in shape)
    geometry = f"{_numbers(affine_ras.ravel(), ';')};{ends}"  # row after row, RAS
    yield "Segmentation_ContainedRepresentationNames:=Binary labelmap|"
    yield f"Segmentation_ConversionParameters:=Reference image geometry|{geometry}|The grid of the whole image.&"
    yield "Segmentation_MasterRepresentation:=Binary labelmap"
    yield "Segmentation_ReferenceImageExtentOffset:=0 0 0"


def _segment_fields(
    number: int, region: Region, layer: int, value: int, extent: Sequence[int], image: str
) -> Iterator[str]:
    drawn_on = f"{IMAGE_TAG}:{image}|" if image else ""
    facts = {
        "ID": segment_id(region.name),
        "Name": _text(region.name, region),
        "NameAutoGenerated": "0",
        "Color": " ".join(f"{channel / 255:.6g}" for channel in region.colour),
        "ColorAutoGenerated": "0",
        "LabelValue": str(value),
        "Layer": str(layer),
        "Extent": _words(extent),
        "Tags": f"TerminologyEntry:{_terminology(region)}|{drawn_on}",
    }
    return (f"Segment{number}_{fact}:={value}" for fact, value in facts.items())


def _terminology(region: Region) -> str:
    """Context, category, type, type modifier, anatomic context, anatomic region and its modifier, as Slicer has it."""
    category = region.code if region.code.value == TISSUE.value else ANATOMY
    coded = "~".join(
        "^".join(_text(part, region, but="|~^") for part in (code.scheme, code.value, code.meaning))
        for code in (category, region.code)
    )
    return f"Segmentation category and type - DICOM master list~{coded}~^^~Anatomic codes - DICOM master list~^^~^^"


def _text(text: str, region: Region, *, but: str = "") -> str:
    """The text as a value of an NRRD header, or an error where it would break the header."""
    bad = [sign for sign in text if sign in but or not sign.isprintable()]
    if bad:
        raise LabelError(
            f"region {region.name!r} has the text {text!r}, which holds {bad[0]!r}; a .seg.nrrd header cannot keep it. "
            "Change the text in dataset.json"
        )
    return text.replace("\\", "\\\\")


def _words(words: Sequence[object]) -> str:
    return " ".join(map(str, words))


def _numbers(values: NDArray[np.float64], separator: str) -> str:
    """Each number in the fewest digits that read back as the same float64."""
    return separator.join(repr(value + 0.0).removesuffix(".0") for value in values.tolist())  # -0.0 + 0.0 is 0.0
