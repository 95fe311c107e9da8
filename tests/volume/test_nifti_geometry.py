"""Where a NIfTI file lies: the rule for headers that contradict themselves, units and tolerances; ITK as oracle."""

from __future__ import annotations

import json
import logging
import pickle
import struct

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from volseg.cohort import Case, Cohort, inspect_cohort, write_cohort
from volseg.errors import GeometryError, VolumeError
from volseg.formats import Decathlon
from volseg.volume import (
    Crop,
    Grid,
    Volume,
    aligned,
    header_of,
    read_aligned,
    read_grid,
    read_volume,
    write_probabilities,
    write_volume,
)

SHAPE = (6, 7, 8)
VOXELS = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
SCANNER = np.diag([-1.5, -1.5, 3.0, 1.0])
SCANNER[:3, 3] = 50, 60, -40
MOVED = np.eye(4)
MOVED[:3, :3] = Rotation.from_euler("xyz", (3, 2, 6), degrees=True).as_matrix()
MOVED[:3, 3] = 4, -6, 8
MOVED = MOVED @ SCANNER
SHEARED = SCANNER.copy()
SHEARED[1, 2] = 0.9
MM = {"unknown": 1.0, "meter": 1000.0, "mm": 1.0, "micron": 0.001}


def store(path, qform, sform, *, codes=(1, 1), unit="mm", voxels=VOXELS, kind=nibabel.Nifti1Image, order="<", **fields):
    """A file whose header says this and nothing else; `fields` are written over it as they are."""
    header = kind.header_class(endianness=order)
    header.set_data_dtype(voxels.dtype.newbyteorder(order))
    image = kind(voxels, np.eye(4), header)
    image.update_header()
    if qform is not None:
        image.header.set_qform(qform, code=1)
    if sform is not None:
        image.header.set_sform(sform, code=1)
    image.header["qform_code"], image.header["sform_code"] = codes
    image.header.set_xyzt_units(unit, "sec")
    for name, value in fields.items():
        image.header[name] = value
    size = image.header.sizeof_hdr
    head = image.header.binaryblock
    start = int(image.header["vox_offset"]) or size + 4
    image.header["vox_offset"] = start
    head = image.header.binaryblock
    path.write_bytes(head + bytes(start - size) + voxels.astype(voxels.dtype.newbyteorder(order)).tobytes("F"))
    return path


def forms(path):
    """What stands in a header, in millimetres."""
    header = nibabel.load(path).header
    mm = MM[header.get_xyzt_units()[0]]
    names = [f"quatern_{axis}" for axis in "bcd"]
    lengths = [*(header[f"qoffset_{axis}"] * mm for axis in "xyz"), *(header["pixdim"][1:4] * mm)]
    rows = [value * mm for axis in "xyz" for value in header[f"srow_{axis}"]]
    codes = [int(header["qform_code"]), int(header["sform_code"]), float(header["pixdim"][0])]
    return np.array([*codes, *(header[name] for name in names), *lengths, *rows], np.float64)


def seen_by_itk(path):
    """(4, 4), LPS millimetres."""
    import itk

    itk.ProcessObject.SetGlobalWarningDisplay(False)
    image = itk.imread(str(path))
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(image.GetDirection()) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return affine


def rotations():
    return st.tuples(*[st.floats(-180, 180)] * 3).map(lambda a: Rotation.from_euler("xyz", a, degrees=True).as_matrix())


@st.composite
def headers(draw):
    """A header, and what the rule makes of it: the affine in mm, and whether it is to be told."""
    sizes = np.array([draw(st.floats(0.3, 5)) for _ in range(3)])
    place = np.array([draw(st.floats(-300, 300)) for _ in range(3)])
    mirror = np.array([1, 1, draw(st.sampled_from([1, -1]))])
    qform = np.eye(4)
    qform[:3, :3] = draw(rotations()) * sizes * mirror
    qform[:3, 3] = place
    relation = draw(st.sampled_from(["same", "moved", "contradicts", "singular", "nan"]))
    sform = qform.copy()
    if relation == "moved":
        sform[:3, :3] = draw(rotations()) @ qform[:3, :3]
        sform[:3, 3] += 3 * sizes
    elif relation == "contradicts":
        sform[:3, :3] *= 1 / sizes if np.abs(sizes - 1).max() > 0.1 else 2
    elif relation == "singular":
        sform[:3, 1] = sform[:3, 0]
    elif relation == "nan":
        sform[0, 0] = np.nan
    codes = draw(st.sampled_from([(1, 1), (1, 2), (2, 4), (1, 0), (0, 1), (0, 3)]))
    unit = draw(st.sampled_from(sorted(MM)))
    if codes[1] == 0:
        expected = qform
    elif codes[0] == 0:
        expected = sform
    else:
        expected = sform if relation in ("same", "moved") else qform
    disagreeing = relation != "same" if min(codes) > 0 else codes[0] == 0 and relation == "contradicts"
    told = unit in ("meter", "micron") or disagreeing
    return qform, sform, codes, unit, expected, told


@settings(max_examples=300)
@given(headers(), st.sampled_from([nibabel.Nifti1Image, nibabel.Nifti2Image]), st.sampled_from("<>"))
def test_any_header_is_read_by_the_rule_and_goes_into_the_prediction(tmp_path_factory, header, kind, order):
    qform, sform, codes, unit, expected, told = header
    folder = tmp_path_factory.mktemp("volume")
    path = store(folder / "a.nii", qform, sform, codes=codes, unit=unit, kind=kind, order=order)
    if not np.isfinite(expected).all() or abs(np.linalg.det(expected)) < 1e-6:
        for read in (read_volume, read_grid):
            with pytest.raises(GeometryError, match=r"^a\.nii: the affine"):
                read(path)
        return
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.voxels, VOXELS)
    scale = np.diag([*[MM[unit]] * 3, 1])
    # The qform is a quaternion in single precision: near half a turn the root of what it lacks to 1 is off by 3.5e-4,
    # twice that is an angle, and voxels have up to 5 units.
    atol = 4e-3 if expected is qform else 2e-3
    np.testing.assert_allclose(volume.affine_ras, scale @ expected, rtol=1e-5, atol=atol * MM[unit])
    shape, affine = read_grid(path)
    assert shape == SHAPE
    np.testing.assert_array_equal(affine, volume.affine_ras)
    assert bool(volume.notes) == told
    write_volume(folder / "p.nii", Volume(volume.voxels > 9, volume.affine_ras))
    again = read_volume(folder / "p.nii")
    assert again.grid.difference(volume.grid, tolerance=1e-3) is None
    if kind is nibabel.Nifti1Image and header_of(volume.affine_ras).sound:
        np.testing.assert_allclose(forms(folder / "p.nii"), forms(path), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("qform", "sform", "codes"),
    [
        (SCANNER, SCANNER, (1, 1)),
        (SCANNER, MOVED, (1, 2)),  # as SPM's coregistration leaves it
        (SCANNER, MOVED, (1, 4)),
        (SCANNER, SHEARED, (1, 1)),
        (MOVED, SCANNER, (2, 1)),
        (MOVED, None, (1, 0)),
        (SCANNER, np.diag([-1.0, -1, 1, 1]), (1, 1)),  # ACDC
    ],
)
@pytest.mark.parametrize("unit", ["mm", "micron", "meter"])
def test_itk_and_nibabel_see_image_and_prediction_at_one_place(tmp_path, qform, sform, codes, unit):
    path = store(tmp_path / "a.nii", qform, sform, codes=codes, unit=unit)
    volume = read_volume(path)
    write_volume(tmp_path / "p.nii.gz", Volume((volume.voxels > 9).astype(np.uint8), volume.affine_ras))
    write_probabilities(tmp_path / "q.nii.gz", np.zeros((2, *SHAPE), np.float32), volume.affine_ras)
    mm = np.diag([*[MM[unit]] * 3, 1])
    for name in ("p.nii.gz", "q.nii.gz"):
        np.testing.assert_allclose(nibabel.load(tmp_path / name).affine, mm @ nibabel.load(path).affine, rtol=1e-6)
        np.testing.assert_allclose(forms(tmp_path / name), forms(path), rtol=1e-6)
    np.testing.assert_allclose(seen_by_itk(tmp_path / "p.nii.gz"), seen_by_itk(path), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "expected", "note"),
    [
        ({}, SCANNER, None),
        ({"xyzt_units": 0}, SCANNER, None),
        ({"xyzt_units": 2 | 48}, SCANNER, None),  # with ppm along the fourth axis
        ({"xyzt_units": 3 | 32}, np.diag([1e-3] * 3 + [1]) @ SCANNER, "micrometres"),  # with Hz
        ({"xyzt_units": 5}, SCANNER, "code 5"),
        ({"sform_code": 0}, SCANNER, None),
        ({"srow_x": [0, 0, 0, 0]}, SCANNER, "the affine is singular"),
        ({"srow_x": [np.nan, 0, 0, 0]}, SCANNER, "NaN"),
        ({"srow_x": [1e30, 0, 0, 0]}, SCANNER, "NaN or a number beyond"),
        ({"srow_x": [-1.5, 0, 0, 51]}, None, "tenth of a voxel"),
        ({"srow_x": [1.5, 0, 0, 50]}, None, "tenth of a voxel"),  # mirrored
        ({"pixdim": [1, 0, 0, 0, 0, 0, 0, 0]}, None, "pixdim"),
        ({"pixdim": [-1, 1.5, 1.5, np.nan, 0, 0, 0, 0]}, SCANNER, "the qform makes no grid"),
        ({"quatern_b": 2.0}, SCANNER, "the qform makes no grid"),
        ({"qform_code": 0, "quatern_b": np.nan}, SCANNER, None),
        ({"qform_code": 0, "pixdim": [1, 1, 1, 1, 1, 1, 1, 1]}, SCANNER, "no qform agrees"),
        ({"pixdim": [0, 1.5, 1.5, 3, 1, 1, 1, 1]}, None, None),  # qfac 0 is 1
    ],
)
def test_each_fault_of_a_header_is_decided_and_told(tmp_path, fields, expected, note):
    path = store(tmp_path / "a.nii", SCANNER, SCANNER, **fields)
    volume = read_volume(path)
    stored = np.array([nibabel.load(path).header[f"srow_{axis}"] for axis in "xyz"])
    if expected is None:
        expected = np.vstack([stored, [0, 0, 0, 1]])
    np.testing.assert_allclose(volume.affine_ras, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(read_grid(path)[1], volume.affine_ras)
    told = " / ".join(volume.notes)
    assert (note in told) if note else not told
    assert "; " not in told  # which stands between the warnings of cases.csv


def test_no_form_that_makes_a_grid_is_refused_with_the_cause(tmp_path):
    path = store(tmp_path / "a.nii", SCANNER, None, codes=(1, 0), quatern_b=1.5)
    with pytest.raises(GeometryError, match=r"a\.nii: the qform's quaternion .* has the length 1\.8"):
        read_volume(path)
    store(path, None, SCANNER, codes=(0, 0))
    with pytest.raises(GeometryError, match=r"states no orientation .* its sform is filled, set the code"):
        read_volume(path)
    store(path, SCANNER, None, codes=(1, 0), pixdim=[1, 1.5, 1.5, np.nan, 0, 0, 0, 0])
    with pytest.raises(GeometryError, match=r"a\.nii: the affine holds NaN"):
        read_volume(path)


def test_a_shear_is_no_contradiction_if_pixdim_is_the_length_or_the_distance_of_planes(tmp_path):
    """A tilted gantry: 3 mm from plane to plane, 3.13 mm along the axis."""
    for third in (3.0, float(np.linalg.norm(SHEARED[:3, 2]))):
        path = store(tmp_path / "a.nii", SCANNER, SHEARED, pixdim=[1, 1.5, 1.5, third, 1, 1, 1, 1])
        np.testing.assert_allclose(read_volume(path).affine_ras, SHEARED, rtol=1e-6)
    store(path, SCANNER, SHEARED, pixdim=[1, 1.5, 1.5, 3.3, 1, 1, 1, 1])
    assert read_volume(path).spacing_mm == pytest.approx((1.5, 1.5, 3.3))


def turned_by(degrees):
    """A quaternion of nearly half a turn around the third axis, in 32 bits."""
    return {"quatern_b": 0, "quatern_c": 0, "quatern_d": np.float32(np.sin(np.radians(degrees) / 2))}


@pytest.mark.parametrize("tilt", [0.03, 0.035, 0.05, 0.2])
def test_small_tilts_are_read_as_itk_reads_them_and_masks_of_both_kinds_are_taken(tmp_path, tilt):
    """nibabel 5.4.2 takes a rest of the quaternion below 3.6e-7 for none: tilts below 0.07 degrees vanish."""
    voxels = np.zeros((256, 256, 4), np.uint8)
    qform = np.diag([-0.7, -0.7, 4.0, 1])
    path = store(tmp_path / "a.nii", qform, None, codes=(1, 0), voxels=voxels, **turned_by(180 - tilt))
    image = read_volume(path)
    itk_affine = np.diag([-1, -1, 1, 1]) @ seen_by_itk(path)
    np.testing.assert_allclose(image.affine_ras, itk_affine, atol=1e-6)
    for name, affine in (("itk", itk_affine), ("nibabel", nibabel.load(path).affine)):
        nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / f"{name}.nii")
        mask, note = aligned(read_volume(tmp_path / f"{name}.nii"), image.grid)
        np.testing.assert_array_equal(mask.affine_ras, image.affine_ras)
        assert bool(note) == (name == "nibabel" and tilt < 0.06)


def test_a_quaternion_a_little_too_long_is_half_a_turn(tmp_path):
    path = store(tmp_path / "a.nii", SCANNER, None, codes=(1, 0))
    for excess in (1e-7, 1e-6, 1e-4):
        length = np.sqrt(1 + excess)
        content = bytearray(path.read_bytes())
        struct.pack_into("<3f", content, 256, 0, 0.5 * length, np.sqrt(0.75) * length)
        path.write_bytes(content)
        turn = Rotation.from_quat([0, 0.5, np.sqrt(0.75), 0]).as_matrix()
        np.testing.assert_allclose(read_volume(path).affine_ras[:3, :3], turn * (1.5, 1.5, 3), atol=1e-6)
        np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ seen_by_itk(path), read_volume(path).affine_ras, atol=1e-5)


def test_a_form_that_needs_more_than_32_bits_is_written_as_an_affine(tmp_path):
    """NIfTI-2 keeps a turn of 179.952 degrees, which that of NIfTI-1 moves by some hundredths of a voxel."""
    voxels = np.zeros((512, 4, 4), np.uint8)
    b, c, d = Rotation.from_euler("z", 179.952, degrees=True).as_quat()[:3]
    more = {"quatern_b": b, "quatern_c": c, "quatern_d": d}
    path = store(tmp_path / "a.nii", np.eye(4), None, codes=(1, 0), voxels=voxels, kind=nibabel.Nifti2Image, **more)
    image = read_volume(path)
    write_volume(tmp_path / "p.nii", image)
    again = read_volume(tmp_path / "p.nii")
    assert again.grid.difference(image.grid, tolerance=1e-3) is None
    assert forms(tmp_path / "p.nii")[:2].tolist() == [1, 1]


def test_a_computed_affine_has_no_header(tmp_path):
    volume = read_volume(store(tmp_path / "a.nii", SCANNER, MOVED, codes=(1, 2)))
    assert header_of(volume.affine_ras) is not None
    whole = Crop((0, 0, 0), SHAPE, SHAPE).cut(volume)
    part = Crop((2, 1, 0), SHAPE, SHAPE).cut(volume)
    for computed in (whole.affine_ras, part.affine_ras, volume.affine_ras @ np.diag([2, 2, 2, 1]), +volume.affine_ras):
        assert header_of(computed) is None
    changed = pickle.loads(pickle.dumps(volume.affine_ras))
    assert header_of(changed) == header_of(volume.affine_ras)
    changed[0, 3] += 1
    assert header_of(changed) is None
    write_volume(tmp_path / "part.nii", part)
    np.testing.assert_allclose(nibabel.load(tmp_path / "part.nii").header.get_qform(), part.affine_ras, atol=1e-4)


def test_a_mask_drawn_in_either_kind_of_program_is_taken_with_a_word(tmp_path):
    """An ITK program saves it where the qform puts the image, nibabel where the sform does."""
    image = read_volume(store(tmp_path / "a.nii", SCANNER, MOVED, codes=(1, 2)))
    for affine, word in ((SCANNER, "another program sees"), (MOVED, "")):
        mask, note = aligned(Volume(VOXELS, affine), image.grid)
        np.testing.assert_array_equal(mask.affine_ras, image.affine_ras)
        assert word in note
        assert bool(word) == bool(note)
    with pytest.raises(GeometryError, match="a corner of the grid is"):
        aligned(Volume(VOXELS, MOVED @ np.diag([1, 1, 1.1, 1])), image.grid)


@pytest.mark.parametrize("share", [0.0005, 0.0019, 0.017])
@pytest.mark.parametrize("mm", [0.002, 1.0, 50.0])
def test_one_tolerance_for_every_size_of_voxel(share, mm):
    grid = Grid(SHAPE, np.diag([mm, mm, 5 * mm, 1.0]))
    moved = np.array(grid.affine_ras)
    moved[2, 3] += share * 5 * mm
    _, note = aligned(Volume(VOXELS, moved), grid)
    assert bool(note) == (share > 0.001)
    moved[0, 3] += 0.021 * mm
    with pytest.raises(GeometryError, match="mm away"):
        aligned(Volume(VOXELS, moved), grid)


@given(st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([1, -1])] * 3), rotations())
def test_axes_that_run_otherwise_are_turned_and_nothing_else(axes, signs, rotation):
    affine = np.eye(4)
    affine[:3, :3] = rotation * (0.7, 0.9, 4)
    ornt = np.array(list(zip(axes, signs, strict=True)), float)
    voxels = nibabel.orientations.apply_orientation(VOXELS, ornt)
    stored = Volume(voxels, affine @ nibabel.orientations.inv_ornt_aff(ornt, SHAPE))
    volume, note = aligned(stored, Grid(SHAPE, affine))
    np.testing.assert_array_equal(volume.voxels, VOXELS)
    np.testing.assert_array_equal(volume.affine_ras, affine)
    same = list(axes) == [0, 1, 2] and signs == (1, 1, 1)
    assert note == ("" if same else "its axes run otherwise than those of the image and were turned")


def test_channels_of_nearly_one_grid_are_one_image_and_that_is_said(tmp_path, caplog):
    near = SCANNER.copy()
    near[0, 3] += 0.01
    paths = [store(tmp_path / f"{i}.nii", None, affine, codes=(0, 1)) for i, affine in enumerate((SCANNER, near))]
    with caplog.at_level(logging.WARNING):
        one, other = read_aligned(paths)
    np.testing.assert_array_equal(one.affine_ras, other.affine_ras)
    assert "1.nii: it lies up to 2 % of a voxel away" in caplog.text


@pytest.mark.parametrize(
    ("voxels", "expected"),
    [
        (np.array([0, 255]), "uint8"),
        (np.array([-5, 3000]), "int16"),
        (np.array([0, 60000], np.uint64), "uint16"),
        (np.array([-1, 70000]), "int32"),
        (np.array([0, 2**32 - 1], np.uint64), "uint32"),
        (np.array([0, 2**40]), "float32"),
        (np.array([0.0, 1e300]), "float32"),
    ],
)
@pytest.mark.parametrize("order", "<>")
def test_64_bits_become_the_smallest_type_that_holds_them(tmp_path, voxels, expected, order):
    voxels = voxels.reshape(2, 1, 1)
    volume = read_volume(store(tmp_path / "a.nii", SCANNER, SCANNER, voxels=voxels, order=order))
    assert volume.voxels.dtype == np.dtype(expected)
    assert volume.voxels.dtype.isnative
    if voxels.max() < 1e30:
        np.testing.assert_array_equal(volume.voxels, voxels)
    write_volume(tmp_path / "b.nii.gz", volume)


def _raw(path, **kinds):
    """A decathlon folder of one case, from a writer for the image and one for the label."""
    for folder, voxels in (("imagesTr", VOXELS), ("labelsTr", (VOXELS > 100).astype(np.uint8))):
        (path / folder).mkdir(parents=True)
        kinds[folder](path / folder / "c.nii", voxels)
    files = {"image": "imagesTr/c.nii", "label": "labelsTr/c.nii"}
    content = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "a"}, "training": [files], "test": []}
    (path / "dataset.json").write_text(json.dumps(content))
    return Decathlon(path)


def test_acdc_is_converted_at_its_true_voxel_size_for_every_reader(tmp_path, caplog):
    qform = np.diag([-1.3157901, -1.3157901, 10, 1])

    def acdc(path, voxels):
        store(path, qform, np.diag([-1.0, -1, 1, 1]), voxels=voxels)

    write_cohort(_raw(tmp_path / "raw", imagesTr=acdc, labelsTr=acdc), tmp_path / "cohort")
    assert "the image: the voxel sizes of the sform contradict pixdim" in caplog.text
    cohort = Cohort.open(tmp_path / "cohort")
    assert cohort.rows["c"].spacing_mm == pytest.approx((1.31579, 1.31579, 10))
    for path in (*cohort.image_paths("c"), cohort.label_path("c")):
        np.testing.assert_allclose(nibabel.load(path).affine, qform, rtol=1e-6)
        np.testing.assert_allclose(nibabel.load(path).header.get_qform(), qform, rtol=1e-6)
    (warning,) = [told for told in inspect_cohort(cohort).warnings if "pixdim" in told]
    assert warning.endswith("in 1 of 1 cases (c)")


def test_a_converted_case_keeps_the_forms_of_its_image_in_the_label_too(tmp_path):
    def coregistered(path, voxels):
        store(path, SCANNER, MOVED, codes=(1, 2), voxels=voxels)

    def drawn_in_itk(path, voxels):
        store(path, SCANNER, SCANNER, voxels=voxels)

    source = _raw(tmp_path / "raw", imagesTr=coregistered, labelsTr=drawn_in_itk)
    write_cohort(source, tmp_path / "cohort")
    cohort = Cohort.open(tmp_path / "cohort")
    image, label = cohort.image_paths("c")[0], cohort.label_path("c")
    np.testing.assert_array_equal(forms(image), forms(label))
    np.testing.assert_array_equal(forms(image), forms(tmp_path / "raw/imagesTr/c.nii"))
    told = cohort.rows["c"].warnings
    assert [warning.partition(":")[0] for warning in told] == ["the image", "the label"]
    inspection = inspect_cohort(cohort)
    assert not inspection.failed
    assert len([warning for warning in inspection.warnings if "voxel" in warning or "program" in warning]) == 2


def test_check_tells_of_headers_that_no_table_tells_of(tmp_path):
    for folder, name in (("imagesTr", "c_0000"), ("labelsTr", "c")):
        (tmp_path / folder).mkdir()
        voxels = VOXELS if folder == "imagesTr" else (VOXELS > 9).astype(np.uint8)
        path = store(tmp_path / f"{name}.nii", SCANNER, MOVED, codes=(1, 2), voxels=voxels)
        nibabel.save(nibabel.load(path), tmp_path / folder / f"{name}.nii.gz")
    content = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    (warning,) = inspect_cohort(Cohort.open(tmp_path)).warnings
    assert warning.startswith("the image: qform and sform place voxels more than a tenth of a voxel apart")


def test_a_case_off_by_half_a_voxel_is_refused(tmp_path):
    moved = SCANNER.copy()
    moved[2, 3] += 1.5
    with pytest.raises(
        GeometryError, match=r"^k: the label is not on the image's grid: a corner of the grid is 1\.5 mm"
    ):
        Case("k", "k", "", (Volume(VOXELS, SCANNER),), Volume(VOXELS.astype(np.uint8), moved), "")


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"NRRD0004\n" * 60, "is no NIfTI file: it begins with b'NRRD"),
        (b"", "it is empty"),
        (struct.pack("<i", 348) + bytes(600), "has no NIfTI magic, as files of Analyze 7.5"),
        (struct.pack("<i", 348) + bytes(340) + b"ni1\0" + bytes(300), "is the header of a pair of files"),
        (struct.pack("<i", 348) + bytes(66) + b"\x80\0" + bytes(272) + b"n+1\0" + bytes(300), "colours"),
        (struct.pack("<i", 348) + bytes(66) + b"\x20\0" + bytes(272) + b"n+1\0" + bytes(300), "complex"),
        (struct.pack("<i", 348) + bytes(66) + b"\x63\0" + bytes(272) + b"n+1\0" + bytes(300), "data"),
    ],
)
def test_only_a_file_that_is_cut_short_is_called_so(tmp_path, content, cause):
    (tmp_path / "a.nii").write_bytes(content)
    for read in (read_volume, read_grid):
        with pytest.raises(VolumeError, match=cause) as caught:
            read(tmp_path / "a.nii")
        assert "cut short" not in str(caught.value)
