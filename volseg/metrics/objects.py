"""Objects of a mask counted and matched: cells, nuclei, lesions."""

from __future__ import annotations

OBJECTS_DEFINITION = (
    "Objects = connected parts of the mask, joined over faces, edges and corners; a part too small to see counts."
)
MATCHED_DEFINITION = (
    "Matched objects = pairs of one predicted and one reference object whose intersection over union is above 0.5, "
    "which leaves at most one partner each."
)
OBJECT_F1_DEFINITION = (
    "Object F1 = 2 matched / (predicted + reference objects). Missed and invented count as 0; both empty is undefined "
    "and left out."
)
HOLES_DEFINITION = "Holes = background that the mask encloses: parts joined over faces that touch no edge of the grid."
