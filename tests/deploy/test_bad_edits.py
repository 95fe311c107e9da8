"""What must not come home: each kind is one line, and every file of the cohort is as it was."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from edited_cohort import (
    AFFINE,
    SHAPE,
    SIMPLE,
    TABLE,
    cohort_of,
    edited,
    label_of,
    nifti,
    seg_nrrd,
    segments_of,
    voxels,
)

from volseg.cli import main
from volseg.cohort import Cohort, read_corrections, write_labels
from volseg.deploy.corrections import Answers, Naming, adopt, file_digest, image_digest, review, undo
from volseg.errors import CohortError, UsageError
from volseg.formats import write_segmentation
from volseg.labels import LabelTable
from volseg.volume import Volume, read_volume, write_volume


def whole(folder: Path) -> dict[str, str]:
    """Digests of every file of a cohort, hidden ones too; the lock file is empty and stays."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(folder)): file_digest(path) for path in files}


def refused(place: Path, cohort: Cohort, **options: object) -> str:
    """The only line of a refusal; the cohort has not changed."""
    before = whole(cohort.folder)
    try:
        found = adopt(place, cohort, **options)
    except (UsageError, CohortError) as error:
        line = str(error)
    else:
        assert not any(one.changed for one in found.adopted.values())
        (line,) = map(str, found.failed.values())
    assert "\n" not in line
    assert whole(cohort.folder) == before
    return line


def written_out(path: Path, label: np.ndarray, image: Volume) -> Path:
    write_segmentation(path, Volume(label, AFFINE), TABLE, image=image_digest(image))
    return path


# --- of another image


def test_an_edit_of_another_image_on_the_same_grid_is_known_by_the_digest_that_its_segments_bear(tmp_path):
    cohort = cohort_of(tmp_path / "cohort")
    images = [read_volume(cohort.image_paths(key)[0]) for key in ("c0", "c1")]
    new = edited(label_of(cohort, "c0"))
    path = written_out(tmp_path / "c0.seg.nrrd", new, images[1])
    line = refused(path, cohort)
    assert "it was written out for the image of c1, not for that of c0" in line
    written_out(path, new, images[0])
    assert adopt(path, cohort).adopted["c0"].notes == ()
    gone = Volume(images[0].voxels + 1, AFFINE)
    found = adopt(written_out(path, voxels(7), gone), cohort).adopted["c0"]
    assert "written out for an image that is no longer in the cohort" in found.notes[0]


def test_slicerio_keeps_the_digest_and_a_copied_segment_is_told(tmp_path):
    slicerio = pytest.importorskip("slicerio")
    cohort = cohort_of(tmp_path / "cohort")
    images = [read_volume(cohort.image_paths(key)[0]) for key in ("c0", "c1")]
    path = written_out(tmp_path / "c0.seg.nrrd", edited(label_of(cohort, "c0")), images[1])
    slicerio.write_segmentation(str(path), slicerio.read_segmentation(str(path)))
    assert "written out for the image of c1" in refused(path, cohort)
    text = path.read_bytes()
    path.write_bytes(text.replace(image_digest(images[1]).encode(), image_digest(images[0]).encode(), 2))
    (note,) = adopt(path, cohort).adopted["c0"].notes
    assert note.endswith("was copied from the segmentation of another image; look whether it lies right")


@pytest.fixture
def todo(tmp_path):
    """A list of two cases with their predictions."""
    cohort = cohort_of(tmp_path / "cohort")
    for key in cohort.keys:
        write_volume(tmp_path / "predictions" / f"{key}.nii.gz", Volume(voxels(5), AFFINE))
    write_labels(tmp_path / "predictions", TABLE, channel_names=["MR"])
    review(tmp_path / "predictions", cohort, tmp_path / "todo", budget=2)
    return cohort, tmp_path / "todo"


def test_a_file_of_another_case_in_a_folder_of_the_list_is_not_taken(todo):
    cohort, place = todo
    write_segmentation(place / "c0" / "c1.seg.nrrd", Volume(voxels(9), AFFINE), TABLE)
    assert "c1.seg.nrrd in its folder is named after c1; move it" in refused(place, cohort)


def test_a_file_beside_the_folders_of_the_list_is_the_edit_of_its_case(todo):
    cohort, place = todo
    path = place / "c1 final.seg.nrrd"
    write_segmentation(path, Volume(voxels(9), AFFINE), TABLE)
    found = adopt(place, cohort)
    assert (list(found.adopted), found.unchanged, found.failed) == (["c1"], ("c0",), {})
    np.testing.assert_array_equal(label_of(cohort, "c1"), voxels(9))
    path.rename(place / "Segmentation.seg.nrrd")
    assert "its name is that of no case of the list" in refused(place, cohort)


def test_a_label_table_that_changed_since_the_list_is_refused(todo):
    cohort, place = todo
    write_segmentation(place / "c0" / "c0.seg.nrrd", Volume(voxels(9), AFFINE), TABLE)
    table = LabelTable.overlapping(["small_bowel", "large_bowel", "stomach"])
    dataset = json.loads((cohort.folder / "dataset.json").read_text()) | table.to_dataset_json()
    (cohort.folder / "dataset.json").write_text(json.dumps(dataset))
    assert "the label table of" in refused(place, Cohort.open(cohort.folder))


def test_an_image_that_changed_since_the_list_is_refused(todo):
    cohort, place = todo
    write_segmentation(place / "c0" / "c0.seg.nrrd", Volume(voxels(9), AFFINE), TABLE)
    write_volume(cohort.image_paths("c0")[0], Volume(voxels(3).astype(np.int16), AFFINE))
    assert "its image has changed since `volseg review` wrote it out" in refused(place, cohort)


# --- names and codes


def test_a_name_with_the_code_of_another_region_is_told(tmp_path):
    cohort = cohort_of(tmp_path / "cohort")
    path = tmp_path / "c0.seg.nrrd"
    write_segmentation(path, Volume(edited(label_of(cohort, "c0")), AFFINE), TABLE)
    text = path.read_bytes().replace(b"Name:=stomach", b"Name:=S_T").replace(b"Name:=small_bowel", b"Name:=stomach")
    path.write_bytes(text.replace(b"Name:=S_T", b"Name:=small_bowel"))
    notes = adopt(path, cohort).adopted["c0"].notes
    assert "the segment stomach bears the code of small_bowel; its name decided, look whether it is right" in notes


@pytest.mark.parametrize("table", ["names.csv", "names.ctbl"])
def test_two_values_of_one_name_are_refused(tmp_path, table):
    cohort = cohort_of(tmp_path / "cohort", SIMPLE)
    path = nifti(tmp_path / "home" / "c0.nii.gz", np.array([0, 1, 2], np.uint8)[voxels(3) % 3])
    rows = {"names.csv": "LabelValue,Name\n1,liver\n2,liver\n", "names.ctbl": "1 liver 1 0 0 255\n2 liver 0 1 0 255\n"}
    (path.parent / table).write_text(rows[table])
    assert "c0.nii.gz holds 2 values named 'liver' (1, 2); give each a name of its own" in refused(path, cohort)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"case": "c9"}, "c0.seg.nrrd names no case of the cohort; say which it is with --case KEY"),
        ({"ignore_slices": [7]}, "the image has the slices 1 to 6, got 7"),
        ({"answers": Answers(take={"stomach": "colon"})}, "the cohort has no region colon"),
        ({"predictions": Path("/dev/null/predictions")}, "there is no folder /dev/null/predictions"),
        ({"naming": Naming(Path("/nowhere.csv")), "path": "nifti"}, "nowhere.csv"),
    ],
)
def test_words_that_fit_nothing(tmp_path, options, told):
    cohort = cohort_of(tmp_path / "cohort")
    path = seg_nrrd(tmp_path / "c0.seg.nrrd", segments_of(voxels(3)))
    if options.pop("path", ""):
        path = nifti(tmp_path / "c0.nii.gz", voxels(3))
    assert told in refused(path, cohort, **options)


# --- half written


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("form", ["seg", "nii.gz", "nii", "nrrd", "gz without its end"])
def test_a_file_that_is_still_growing(tmp_path, form, share):
    """Whatever its writer has flushed so far."""
    cohort = cohort_of(tmp_path / "cohort", SIMPLE)
    label = voxels(3) % 3
    if form == "seg":
        path = seg_nrrd(tmp_path / "c0.seg.nrrd", segments_of(label, SIMPLE))
    elif form == "nrrd":
        path = tmp_path / "c0.nrrd"
        head = "NRRD0004\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\nsizes: 9 8 6\n"
        head += "space directions: (1.5,0,0) (0,1.5,0) (0,0,3)"
        path.write_bytes(f"{head}\nencoding: raw\nspace origin: (0,0,0)\n\n".encode() + label.tobytes(order="F"))
    else:
        path = nifti(tmp_path / ("c0.nii" if form == "nii" else "c0.nii.gz"), label)
    content = path.read_bytes()
    cut = content[:-8] if form.startswith("gz") else content[: int(len(content) * share)]
    path.write_bytes(cut)
    assert path.name in refused(path, cohort, naming=Naming(values_as=SIMPLE))


# --- slices that nobody looked at


def test_what_is_drawn_where_it_is_ignored_and_what_is_no_longer_ignored_is_told(tmp_path):
    cohort = cohort_of(tmp_path / "cohort")
    old = label_of(cohort, "c0")
    unseen = np.zeros(SHAPE, bool)
    unseen[..., 4:] = True
    path = seg_nrrd(tmp_path / "c0.seg.nrrd", {**segments_of(old), "ignore": unseen})
    assert adopt(path, cohort).adopted["c0"].notes == ()
    cohort = Cohort.open(cohort.folder)
    drawn = old.copy()
    drawn[..., 4:] = 0  # what an export shows of ignored voxels
    drawn[1:4, 2, 5] |= 4
    drawn[1, 1, 1] ^= 4
    seg_nrrd(path, {**segments_of(drawn), "ignore": unseen})
    found = adopt(path, cohort).adopted["c0"]
    assert found.notes == ("3 voxels were drawn anew where it is marked to be ignored; they do not count",)
    np.testing.assert_array_equal(label_of(cohort, "c0"), np.where(unseen, np.uint8(8), drawn))
    seg_nrrd(path, segments_of(drawn))
    found = adopt(path, cohort).adopted["c0"]
    assert found.notes == ("144 voxels that were to be ignored count as looked at from now on",)


def test_a_case_of_the_test_set_is_taken_and_told(tmp_path):
    cohort = cohort_of(tmp_path / "cohort")
    rows = "key,patient,session,shape,spacing_mm,orientation,source,warnings\n"
    rows += "".join(f"c{n},p{n},,9x8x6,1.5x1.5x3,LPS,x,{'test' if n == 0 else ''}\n" for n in range(2))
    (cohort.folder / "cases.csv").write_text(rows)
    cohort = Cohort.open(cohort.folder)
    assert cohort.rows["c0"].test
    path = seg_nrrd(tmp_path / "c0.seg.nrrd", segments_of(voxels(9)))
    assert "it is kept for a test, whose scores" in adopt(path, cohort).adopted["c0"].notes[0]
    assert Cohort.open(cohort.folder).rows["c0"].test


# --- rounds, undo, two at once, a kill


def test_rounds_are_undone_one_after_the_other_and_a_case_alone(tmp_path):
    cohort = cohort_of(tmp_path / "cohort")
    old = label_of(cohort, "c0")
    path = tmp_path / "c0.seg.nrrd"
    for seed in (7, 8):
        adopt(seg_nrrd(path, segments_of(voxels(seed))), cohort)
    adopt(seg_nrrd(tmp_path / "c1.seg.nrrd", segments_of(voxels(9))), cohort)
    assert not adopt(path, cohort).adopted["c0"].changed  # the same edit again
    assert undo(cohort, case="c0") == ("c0",)
    np.testing.assert_array_equal(label_of(cohort, "c0"), voxels(7))
    assert undo(cohort) == ("c1",)
    assert undo(cohort) == ("c0",)
    np.testing.assert_array_equal(label_of(cohort, "c0"), old)
    adopt(seg_nrrd(path, segments_of(voxels(6))), cohort)  # the number of a round comes again
    undo(cohort)
    np.testing.assert_array_equal(label_of(cohort, "c0"), old)
    with pytest.raises(UsageError, match="nothing to undo"):
        undo(cohort)


def test_a_former_label_is_not_put_back_under_another_label_table(tmp_path):
    cohort = cohort_of(tmp_path / "cohort")
    adopt(seg_nrrd(tmp_path / "c0.seg.nrrd", segments_of(voxels(7))), cohort)
    file = cohort.folder / "dataset.json"
    former = file.read_text()
    table = LabelTable.overlapping(["small_bowel", "large_bowel", "stomach"])
    file.write_text(json.dumps(json.loads(former) | table.to_dataset_json()))
    before = whole(cohort.folder)
    with pytest.raises(CohortError, match="the label table has changed since"):
        undo(Cohort.open(cohort.folder))
    assert whole(cohort.folder) == before
    file.write_text(former)
    assert undo(Cohort.open(cohort.folder)) == ("c0",)


def test_two_adoptions_at_once(tmp_path):
    """The second is refused in a line, or comes after the first; never a mixture."""
    cohort = cohort_of(tmp_path / "cohort")
    for seed in (7, 8):
        seg_nrrd(tmp_path / str(seed) / "c0.seg.nrrd", segments_of(voxels(seed)))
    results: dict[int, object] = {}

    def work(seed: int) -> None:
        try:
            results[seed] = adopt(tmp_path / str(seed), cohort).adopted["c0"].changed
        except UsageError as error:
            results[seed] = str(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (7, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = [seed for seed, result in results.items() if result is True]
    assert taken
    assert any(np.array_equal(label_of(cohort, "c0"), voxels(seed)) for seed in taken)
    for result in results.values():
        assert result is True or "another adoption is at work" in str(result)
    assert len(read_corrections(cohort.folder)) == 3 * len(taken)


def test_a_cohort_that_cannot_be_written(tmp_path, capsys):
    cohort = cohort_of(tmp_path / "cohort")
    path = seg_nrrd(tmp_path / "c0.seg.nrrd", segments_of(voxels(7)))
    (cohort.folder / ".volseg").write_text("")  # as good as a disk that is read-only, for root too
    before = whole(cohort.folder)
    with pytest.raises(SystemExit) as left:
        main(["adopt", str(path), str(cohort.folder)])
    assert left.value.code not in (0, None)
    said = capsys.readouterr().err.strip()
    assert "Traceback" not in said
    assert str(cohort.folder) in said
    assert whole(cohort.folder) == before


@pytest.mark.slow
def test_a_kill_in_the_middle_of_the_command(tmp_path):
    """SIGKILL at any moment: each case has its former label or the new one, and running it again does the rest."""
    cohort = cohort_of(tmp_path / "cohort")
    for number in range(2, 12):
        key = f"c{number}"
        write_volume(cohort.folder / "imagesTr" / f"{key}_0000.nii.gz", Volume(voxels(1).astype(np.int16), AFFINE))
        write_volume(cohort.folder / "labelsTr" / f"{key}.nii.gz", Volume(voxels(1), AFFINE))
    for number in range(12):
        seg_nrrd(tmp_path / "home" / f"c{number}.seg.nrrd", segments_of(voxels(50 + number)))
    code = "import sys; from volseg.cli import main; main(['adopt', *sys.argv[1:]])"
    command = [sys.executable, "-c", code, str(tmp_path / "home"), str(cohort.folder)]
    counts = []
    for target in (1, 4, 9):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list((cohort.folder / ".volseg/labels").glob("*"))) < target:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        opened = Cohort.open(cohort.folder)
        rows = {row.key for row in read_corrections(cohort.folder)}
        for number in range(12):
            assert np.array_equal(label_of(opened, f"c{number}"), voxels(50 + number)) == (f"c{number}" in rows)
        counts.append(len(rows))
    assert counts == sorted(counts)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert {row.key for row in read_corrections(cohort.folder)} == set(Cohort.open(cohort.folder).keys)


def test_gzip_is_read_to_its_end(tmp_path):
    """A member that was appended while the first was read is no part of the label."""
    cohort = cohort_of(tmp_path / "cohort", SIMPLE)
    path = nifti(tmp_path / "c0.nii.gz", voxels(3) % 3)
    path.write_bytes(path.read_bytes() + gzip.compress(b"more"))
    before = whole(cohort.folder)
    found = adopt(path, cohort, naming=Naming(values_as=SIMPLE))
    if found.failed:
        assert whole(cohort.folder) == before
    else:
        np.testing.assert_array_equal(label_of(cohort, "c0"), voxels(3) % 3)
