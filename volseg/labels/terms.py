"""The codes and colours of known structures: SNOMED CT terms and a palette."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """A coded term, by default of SNOMED CT: `Code("69695003", "Stomach")`."""

    value: str
    meaning: str
    scheme: str = "SCT"

    @property
    def general(self) -> bool:
        """Whether any structure may have it: tissue, body structure, anatomical structure.

        >>> TISSUE.general, Code("69695003", "Stomach").general
        (True, False)
        """
        return self.value in _GENERAL


# Codes as DICOM PS3.16 prints them; colours from the palette below.
TISSUE = Code("85756007", "Tissue")
ANATOMY = Code("123037004", "Anatomical Structure")
_GENERAL = frozenset({TISSUE.value, ANATOMY.value, "91723000"})
_KNOWN: dict[str, tuple[tuple[int, int, int], Code]] = {
    "large_bowel": ((230, 159, 0), Code("14742008", "Large intestine")),
    "small_bowel": ((86, 180, 233), Code("30315005", "Small intestine")),
    "stomach": ((204, 121, 167), Code("69695003", "Stomach")),
    "colon": ((230, 159, 0), Code("71854001", "Colon")),
    "hippocampus": ((0, 158, 115), Code("5366008", "Hippocampus")),
}
# Okabe and Ito's palette, which colour-blind readers can distinguish too.
_PALETTE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (213, 94, 0),
    (240, 228, 66),
    (204, 121, 167),
    (0, 114, 178),
    (153, 153, 153),
)
