"""The position of voxels in a NIfTI header: qform, sform, pixdim and unit, and which of them counts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from volseg.errors import GeometryError
from volseg.volume.geometry import ROUNDING, Affine, FileAffine, check_affine, farthest_corner

# Millimetres in the unit of xyzt_units, by its lowest three bits; 0 states no unit.
_UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_UNIT_NAMES = {1: "metres", 3: "micrometres"}
# Relative difference above which voxel sizes of the sform contradict pixdim. Rounding is 1e-5 (dcm2niix).
CONTRADICTION = 0.01
# Distance of a corner between two readings of one header, as a fraction of a voxel, above which there is a note.
CONFLICT = 0.1
# As in the reference library nifticlib, which ITK uses: below it, the rest of the quaternion's length is rounding.
_LEAST_REST = 1e-7
# As in nibabel, which takes a rotation whose rest is below it for 180 degrees: tilts below 0.07 degrees vanish.
_LEAST_REST_NIBABEL = 3 * float(np.finfo(np.float32).eps)
# Length of a quaternion above 1 that is still rounding.
_LONGEST = 1.001


@dataclass(frozen=True)
class NiftiHeader:
    """The position of voxels in a NIfTI header, in millimetres, and volseg's reading of it.

    Every reader of volseg follows this rule (docs/reference/formats.md):

    1. Lengths are in the unit of `xyzt_units`; a file that states none, or none of NIfTI's, means millimetres.
    2. A form counts if its code is above 0 and its numbers make a grid. The qform takes its voxel sizes from pixdim.
    3. The sform counts before the qform, unless its voxel sizes contradict pixdim by more than 1 % and the qform
       counts. The voxel size of a sheared axis is its length or the distance between its planes.

    Attributes:
        shape: Number of voxels along X, Y, Z.
        qform_code: Code of the qform; 0 says that there is none.
        sform_code: Code of the sform; 0 says that there is none.
        pixdim: Sign of the third axis (qfac), then the voxel sizes.
        quaternion: Components b, c and d of the qform.
        offset: Translation of the qform.
        rows: Rows of the sform.
        unit: Lowest three bits of `xyzt_units`.
    """

    shape: tuple[int, ...]
    qform_code: int
    sform_code: int
    pixdim: tuple[float, ...]
    quaternion: tuple[float, ...]
    offset: tuple[float, ...]
    rows: tuple[float, ...]
    unit: int = 2

    @classmethod
    def of(cls, header: Any) -> NiftiHeader:  # noqa: ANN401 - nibabel's header has no type
        """Read the facts from nibabel's header of a NIfTI-1 or NIfTI-2 file, as they are stored in the file."""
        unit = int(header["xyzt_units"]) & 7
        mm = _UNITS_MM.get(unit, 1.0)
        rank = int(header["dim"][0])
        shape = tuple(int(n) for n in header["dim"][1 : 1 + min(rank, 3)])

        def lengths(*names: str) -> tuple[float, ...]:
            return tuple(float(header[name]) * mm for name in names)

        pixdim = [float(value) for value in header["pixdim"][:4]]
        return cls(
            (*shape, *(1,) * (3 - len(shape))),
            int(header["qform_code"]),
            int(header["sform_code"]),
            (pixdim[0], *(value * mm for value in pixdim[1:])),
            tuple(float(header[f"quatern_{axis}"]) for axis in "bcd"),
            lengths("qoffset_x", "qoffset_y", "qoffset_z"),
            tuple(float(value) * mm for axis in "xyz" for value in header[f"srow_{axis}"]),
            unit,
        )

    @property
    def oriented(self) -> bool:
        """Whether the header states a form."""
        return self.qform_code > 0 or self.sform_code > 0

    @property
    def affine_ras(self) -> FileAffine:
        """The affine (4, 4) from voxel index to RAS mm, by the rule; a new array, which remembers this header.

        Raises:
            GeometryError: No form counts; the message says what is wrong with the sform, else with the qform.
        """
        return FileAffine(self._decision[0], self)

    def gives(self, affine: ArrayLike) -> bool:
        """Whether an affine is the one that the rule gives for this header."""
        return np.array_equal(self._decision[0], np.asarray(affine))

    @property
    def sform_rejected(self) -> bool:
        """Whether the sform's voxel sizes contradict pixdim, so that the qform counts."""
        return self._decision[1] == "contradiction"

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """Decisions of the rule that another program may take otherwise; one sentence each, without `; `."""
        return tuple(self._notes())

    @cached_property
    def readings(self) -> tuple[Affine, ...]:
        """The affines that programs compute from this header: its forms, nibabel's rounded qform, and ITK's mixture.

        The label map of a program has one of them.
        """
        qform, sform = self._qform, self._sform
        found = [form for form in (sform, qform) if isinstance(form, np.ndarray)]
        if isinstance(qform, np.ndarray):
            found.append(self._of_quaternion(least=_LEAST_REST_NIBABEL))
        if isinstance(sform, np.ndarray) and self._sizes_state:
            # ITK takes directions from the sform and spacings from pixdim.
            mixed = sform.copy()
            mixed[:3, :3] *= np.array(self.pixdim[1:]) / np.linalg.norm(sform[:3, :3], axis=0)
            found.append(mixed)
        return tuple(found)

    @cached_property
    def sound(self) -> bool:
        """Whether each stated form makes a grid, so that another file may have all of them."""
        stated = ((self.qform_code, self._qform), (self.sform_code, self._sform))
        forms = [form for code, form in stated if code > 0]
        return self._sizes_state and bool(forms) and all(isinstance(form, np.ndarray) for form in forms)

    def write_to(self, header: Any) -> bool:  # noqa: ANN401 - nibabel's header has no type
        """Write these forms and codes, in millimetres, into nibabel's header of a NIfTI-1 file.

        Returns:
            Whether they were written; False, with the header unchanged, if a form makes no grid, or if 32 bits are too
            few for a form of NIfTI-2.
        """
        if not self.sound:
            return False
        numbers = (*self.pixdim, *self.quaternion, *self.offset, *self.rows)
        if not np.array_equal(np.array(numbers, np.float32), numbers):
            written = header.copy()
            for name, value in self._entries():
                written[name] = value
            again = NiftiHeader.of(written).affine_ras
            if farthest_corner(self.shape, again, self._decision[0]) > ROUNDING:
                return False
        for name, value in self._entries():
            header[name] = value
        return True

    def _entries(self) -> Iterator[tuple[str, Any]]:
        """The fields of a NIfTI-1 header with their values."""
        yield "xyzt_units", 2
        yield "qform_code", self.qform_code
        yield "sform_code", self.sform_code
        yield "pixdim", (*self.pixdim, 1, 1, 1, 1)
        for axis, part in zip("bcd", self.quaternion, strict=True):
            yield f"quatern_{axis}", part
        for axis, mm, row in zip("xyz", self.offset, (self.rows[:4], self.rows[4:8], self.rows[8:]), strict=True):
            yield f"qoffset_{axis}", mm
            yield f"srow_{axis}", row

    def to_text(self) -> str:
        """The facts as JSON, for the metadata of a tensor."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> NiftiHeader:
        """The inverse of `to_text`."""
        facts: dict[str, Any] = json.loads(text)
        for name, value in facts.items():
            facts[name] = tuple(value) if isinstance(value, list) else value
        return cls(**facts)

    @property
    def _sizes_state(self) -> bool:
        """Whether pixdim states a size for each axis."""
        return all(np.isfinite(size) and size > 0 for size in self.pixdim[1:])

    @cached_property
    def _decision(self) -> tuple[Affine, str]:
        """The affine, and the reason for it."""
        qform, sform = self._qform, self._sform
        if isinstance(sform, np.ndarray):
            if isinstance(qform, np.ndarray) and self._sizes_state and self._contradicted:
                return qform, "contradiction"
            return sform, "sform"
        if isinstance(qform, np.ndarray):
            return qform, "no sform" if sform is None else "broken sform"
        wrong = [found for found in (sform, qform) if found is not None]
        if wrong:
            raise wrong[0]
        return self._without_form(), "none"

    def _notes(self) -> Iterator[str]:
        qform, sform = self._qform, self._sform
        name = _UNIT_NAMES.get(self.unit)
        if name:
            yield f"lengths are stated in {name} and were turned into millimetres"
        elif self.unit not in _UNITS_MM:
            yield f"the unit of length has the code {self.unit}, which NIfTI does not know: taken as millimetres"
        chosen, why = self._decision
        if why == "contradiction":
            yield "the voxel sizes of the sform contradict pixdim, with which the qform agrees, so the qform counts"
        elif why == "broken sform":
            yield f"the sform makes no grid ({_cause(sform)}), so the qform counts"
        elif (
            isinstance(qform, np.ndarray)
            and isinstance(sform, np.ndarray)
            and farthest_corner(self.shape, qform, sform) > CONFLICT
        ):
            yield (
                "qform and sform place voxels more than a tenth of a voxel apart: the sform counts, as in nibabel, and "
                "programs that use ITK may take the qform"
            )
        if why == "sform" and isinstance(qform, GeometryError):
            yield f"the qform makes no grid ({_cause(qform)}), so the sform counts"
        elif isinstance(sform, np.ndarray) and why == "sform" and self._contradicted:
            yield "pixdim contradicts the voxel sizes of the sform, and no qform agrees with it, so the sform counts"
        if isinstance(qform, np.ndarray) and chosen is qform and not self._sizes_state:
            yield "pixdim is not above 0 along each axis: taken as 1 mm where it is 0, else without its sign"

    @cached_property
    def _sform(self) -> Affine | GeometryError | None:
        """The sform; None if it is not stated, and the error if it makes no grid."""
        if self.sform_code <= 0:
            return None
        return _checked([*self.rows, 0, 0, 0, 1])

    @cached_property
    def _qform(self) -> Affine | GeometryError | None:
        """The qform; None if it is not stated, and the error if it makes no grid."""
        if self.qform_code <= 0:
            return None
        with np.errstate(all="ignore"):  # numbers of a damaged header may be huge
            length = float(np.linalg.norm(self.quaternion))
        if not length <= _LONGEST:
            return GeometryError(
                f"the qform's quaternion (b, c, d) has the length {length:g}, expected at most 1; write the file again "
                "with its true orientation"
            )
        try:
            return check_affine(self._of_quaternion(least=_LEAST_REST))
        except GeometryError as error:
            return error

    def _of_quaternion(self, *, least: float) -> Affine:
        """The affine of the qform, as nifti1_io.c computes it; formula in nifti1.h, "QUATERNION REPRESENTATION"."""
        b, c, d = self.quaternion
        rest = 1 - (b * b + c * c + d * d)
        if rest < least:  # 180 degrees, up to rounding: the length is set to 1
            length = float(np.sqrt(b * b + c * c + d * d))
            a, b, c, d = 0.0, b / length, c / length, d / length
        else:
            a = float(np.sqrt(rest))
        turn = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        sizes = [abs(size) or 1.0 for size in self.pixdim[1:]]
        sizes[2] *= -1 if self.pixdim[0] < 0 else 1
        affine = np.eye(4)
        affine[:3, :3] = turn * sizes
        affine[:3, 3] = self.offset
        return affine

    @cached_property
    def _contradicted(self) -> bool:
        """Whether pixdim is neither the length of an axis of the sform nor the distance between its planes."""
        if not isinstance(self._sform, np.ndarray):
            return False
        axes = self._sform[:3, :3]
        lengths = np.sqrt((axes**2).sum(axis=0)).tolist()
        sizes = zip(self.shape, self.pixdim[1:], lengths, strict=True)
        if all(n == 1 or abs(size / mm - 1) <= CONTRADICTION for n, size, mm in sizes):
            return False
        distances = (1 / np.linalg.norm(np.linalg.inv(axes), axis=1)).tolist()
        return any(
            n > 1 and not min(abs(size / length - 1), abs(size / distance - 1)) <= CONTRADICTION
            for n, size, length, distance in zip(self.shape, self.pixdim[1:], lengths, distances, strict=True)
        )

    def _without_form(self) -> Affine:
        """The affine of nibabel for a file that states no form: axes to the left, front and head around the centre."""
        sizes = np.array([abs(size) or 1.0 for size in self.pixdim[1:]]) * (-1, 1, 1)
        affine = np.diag([*sizes, 1.0])
        affine[:3, 3] = -sizes * (np.array(self.shape) - 1) / 2
        return check_affine(affine)


def _checked(numbers: Sequence[float]) -> Affine | GeometryError:
    """16 numbers as an affine, or the error in them."""
    matrix: NDArray[np.float64] = np.array(numbers, dtype=np.float64).reshape(4, 4)
    try:
        return check_affine(matrix)
    except GeometryError as error:
        return error


def _cause(error: object) -> str:
    """The first half of an error's sentence."""
    return str(error).partition(";")[0].partition(",")[0]
