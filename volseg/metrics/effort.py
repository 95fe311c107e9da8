"""The work that correcting a prediction would cost: contour to redraw, slices to touch, and a published point score."""

from __future__ import annotations

ADDED_PATH_LENGTH_DEFINITION = (
    "Added path length = the contour of the reference that the prediction's contour does not cover, in mm, summed over "
    "slices (Vaassen 2020, doi:10.1016/j.phro.2019.12.001): contour pixels times the pixel side, without tolerance. "
    "Missed gives the whole contour; what must only be erased adds nothing."
)
SLICES_TO_CORRECT_DEFINITION = (
    "Slices to correct = slices in which one mask is there without the other, or a contour lies further than the "
    "tolerance from the other within the slice."
)
CORRECTION_DEFINITION = (
    "Time to correct = added path length times the minutes that drawing a metre of contour takes: a model, not a "
    "measurement."
)
TIME_SAVED_DEFINITION = (
    "Time saved = points a slice, averaged over all slices: large bowel +5 if the slice's Dice is above 0.80, else -2; "
    "small bowel +3 above 0.70, else -3; stomach +2 above 0.85, else -4; a slice where both are empty passes. Other "
    "regions have none."
)
