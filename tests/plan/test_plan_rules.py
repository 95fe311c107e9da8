"""The rules of a plan, by hand: fingerprint in, decision out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from volseg.plan import (
    Candidate,
    Decision,
    Fingerprint,
    Intensities,
    RegionFacts,
    StepCost,
    plan_background_share,
    plan_batch,
    plan_bundle_choice,
    plan_flip_axes,
    plan_folds,
    plan_normalisation,
    plan_roi_voxels,
    plan_schedule,
    plan_skip_empty,
    plan_warnings,
    window_count,
)

GIB = 2**30


def intensities(low, high, *, std=None):
    mean = (low + high) / 2
    spread = [low + (high - low) * share for share in (0.005, 0.05, 0.5, 0.95, 0.995)]
    return Intensities(mean, (high - low) / 4 if std is None else std, tuple(spread))


def region(name="organ", *, cases=20, share=0.02, symmetry=(0.5, 0.5, 0.5), inside=()):
    return RegionFacts(name, cases, 1000.0, 1000.0, share, (5, 5, 5), (5.0, 5.0, 5.0), "a", 900, 1.0, inside, symmetry)


def cohort(*regions, channels=("MR",), **facts):
    usual = {
        "cases": 20,
        "patients": 20,
        "shape": (100, 100, 60),
        "shape_range": ((100, 100),) * 3,
        "spacing_mm": (1.0, 1.0, 1.0),
        "spacing_range_mm": ((1.0,) * 4,) * 3,
        "flat": False,
        "looked_at": 20,
        "images_read": 20,
    }
    return Fingerprint(channel_names=tuple(channels), regions=regions or (region(),), **{**usual, **facts})


# --- intensities


@pytest.mark.parametrize(
    ("name", "inside", "outside", "scheme"),
    [
        ("CT", (-60, 200), (-1000, 300), "ct"),
        ("ct_portal", (-60, 200), (-1024, 300), "ct"),
        ("CT", (0, 255), (0, 255), "mr"),  # exported as bytes: no Hounsfield units
        ("T1", (0, 900), (0, 1200), "mr"),
        ("MRI", (-1000, 100), (-1000, 300), "mr"),
        ("PET", (0, 25), (0, 8), "pet"),
        ("SUV", (0, 25), (0, 8), "pet"),
        ("ADC", (0, 3000), (0, 3000), "pet"),
        ("R", (0, 255), (0, 255), "rgb"),
        ("green", (0, 255), (0, 255), "rgb"),
        ("noNorm", (0, 1), (0, 1), "none"),
        ("octopus", (0, 1), (0, 1), "mr"),  # no word of it is CT
    ],
)
def test_the_scheme_of_a_channel_follows_its_name_and_what_it_holds(name, inside, outside, scheme):
    facts = cohort(channels=(name,), foreground=(intensities(*inside),), background=(intensities(*outside),))
    assert [one["scheme"] for one in plan_normalisation(facts).value] == [scheme]


def test_a_ct_has_the_numbers_of_the_cohort_and_a_channel_each_its_own():
    facts = cohort(
        channels=("CT", "PET"),
        foreground=(intensities(-100, 300), intensities(0, 20)),
        background=(intensities(-1000, 400), intensities(0, 5)),
    )
    ct, pet = plan_normalisation(facts).value
    assert ct == {"scheme": "ct", "lower": -98, "upper": 298, "mean": 100, "std": 100}
    assert pet == {"scheme": "pet"}


def test_a_ct_of_which_no_image_was_read_is_not_given_numbers_out_of_the_air():
    assert plan_normalisation(cohort(channels=("CT",), images_read=0)).value == [{"scheme": "ct"}]


def test_a_small_region_is_not_cut_off_by_the_limits_of_a_ct():
    """Half a percent of the voxels inside regions may be all of a lesion."""
    facts = cohort(
        region(inside=(intensities(60, 200),)),
        region("lesion", share=1e-5, inside=(intensities(-40, 30),)),
        channels=("CT",),
        foreground=(intensities(50, 200),),
        background=(intensities(-1000, 300),),
    )
    (entry,) = plan_normalisation(facts).value
    assert entry["lower"] == pytest.approx(-39.65)
    assert entry["upper"] == pytest.approx(199.3)


def test_what_looks_like_a_ct_and_is_not_named_so_is_told():
    facts = cohort(foreground=(intensities(-50, 200),), background=(intensities(-1000, 300),))
    assert "name it CT if it is one" in plan_normalisation(facts).reason


# --- mirrors


@pytest.mark.parametrize(
    ("facts", "axes", "told"),
    [
        (cohort(region("tumour", symmetry=(0.95, 0.9, 0.9))), [0], "overlap with its mirror image: right-left 95 %"),
        (cohort(region("tumour", symmetry=(0.7, 0.9, 0.9))), [], "right-left 70 %; 85 % count"),
        (cohort(region("hippocampus_left", symmetry=(1, 1, 1))), [], "hippocampus_left names a side"),
        (cohort(region("Lung R", symmetry=(1, 1, 1))), [], "Lung R names a side"),
        (cohort(region("vertebra L4", symmetry=(1, 1, 1)), region("L5", symmetry=(1, 1, 1))), [0], "right-left"),
        (
            cohort(region("lung L1", symmetry=(1, 1, 1)), region("lung R1", symmetry=(1, 1, 1))),
            [],
            "lung L1 names a side",
        ),
        (cohort(region("HandLeft", symmetry=(1, 1, 1))), [], "HandLeft names a side"),
        (cohort(region("handR", symmetry=(1, 1, 1))), [], "handR names a side"),
        (cohort(region("rightlung", symmetry=(1, 1, 1))), [], "rightlung names a side"),
        (cohort(region("Kidney", symmetry=(1, 1, 1))), [], "Kidney is an organ of the trunk"),
        (cohort(region("large_bowel", symmetry=(1, 1, 1))), [], "large_bowel is an organ of the trunk"),
        (cohort(region("ventricle", symmetry=(1, 1, 1))), [], "ventricle is an organ of the trunk"),
        (cohort(region("lateral_ventricles", symmetry=(1, 1, 1))), [0], "lies on both sides alike"),
        (cohort(region("bone_matrix", symmetry=(1, 1, 1))), [0], "lies on both sides alike"),
        (cohort(region("tumour", cases=7, symmetry=(1, 1, 1))), [], "seen in 7 cases"),
        (cohort(region("tumour", cases=0), region("edema", symmetry=(1, 1, 1))), [0], "right-left"),
    ],
)
def test_axes_are_mirrored_where_names_and_the_cohort_allow_it(facts, axes, told):
    decision = plan_flip_axes(facts)
    assert decision.value == axes
    assert told in decision.reason


def test_a_word_that_contains_a_side_names_none():
    assert plan_flip_axes(
        cohort(region("cleft", symmetry=(0.9,) * 3), region("bright", symmetry=(0.9,) * 3))
    ).value == [0]


def test_a_slice_of_a_microscope_has_no_up():
    facts = cohort(
        region("nucleus", symmetry=(0.95, 0.95, 1.0)),
        flat=True,
        shape=(256, 320, 1),
        spacing_mm=(1.0, 1.0, 1.0),
        channels=("red", "green", "blue"),
    )
    assert plan_flip_axes(facts).value == [0, 1]
    for of_a_body in (("X-ray",), ("T1", "T2", "FLAIR")):  # a slice of three sequences has as many channels as a colour
        assert plan_flip_axes(replace(facts, channel_names=of_a_body)).value == [0]


# --- a step


COST = StepCost((50_000, 100_000), 2, (0.5, 1.0), (GIB, 2 * GIB), 0.1)


def voxels(cost=COST, *, minutes=0.0, memory=None, usual=100_000):
    return plan_roi_voxels(cohort(), usual=usual, spacing_mm=(1, 1, 1), cost=cost, minutes=minutes, memory_bytes=memory)


def test_the_usual_window_stays_where_nothing_speaks_against_it():
    assert voxels().value == 100_000
    assert voxels(None).value == 100_000
    assert voxels(minutes=60, memory=8 * GIB).value == 100_000
    assert "a step takes 2 GiB, measured" in voxels(memory=8 * GIB).reason


def test_too_few_steps_make_the_window_smaller_to_a_quarter_at_most():
    found = voxels(minutes=20)  # 1,200 steps of a second
    assert 50_000 <= found.value <= 80_000
    assert "give 1,200 steps of 1 s, fewer than 1,500" in found.reason
    assert found.change == "more --minutes: 25 give the usual window enough steps"
    assert voxels(minutes=0.1).value == 25_000


def test_the_memory_sets_the_window_by_the_line_through_two_steps():
    found = voxels(memory=1.5 * GIB)  # 80 % of it are 1.2 GiB
    assert found.value == pytest.approx(60_000, abs=1)
    assert "a step with 100,000 voxels takes 2 GiB by two trial steps, and 1.2 GiB are for it" in found.reason
    assert found.change == "--memory 2.5GiB, or a smaller network"
    assert voxels(memory=0.01 * GIB).value == 2_000, "a refusal is left to the network"


def test_a_batch_takes_no_case_twice_and_as_many_windows():
    assert [one.value for one in plan_batch(cohort(), usual=2, crops=2, training_cases=30)] == [2, 2]
    batch, crops = plan_batch(cohort(), usual=2, crops=2, training_cases=1)
    assert (batch.value, crops.value) == (1, 4)
    assert "there are 1 training case, and" not in batch.reason
    assert "there is 1 training case" in batch.reason


def test_windows_outside_regions_are_a_third_and_fewer_where_regions_are_many():
    assert plan_background_share(cohort()).value == pytest.approx(1 / 3)
    tiny = plan_background_share(cohort(region(), region("lesion", share=2e-5)))
    assert tiny.value == pytest.approx(1 / 3)
    assert "lesion, with 0.002 % of the voxels, is in one of 2 of them" in tiny.reason
    assert plan_background_share(cohort(*[region(f"r{n}") for n in range(25)])).value == 0.2


# --- time


def schedule(minutes=20.0, *, cost=COST, windows=100, epoch=30):
    minutes_, interval = plan_schedule(
        minutes=minutes,
        cost=cost,
        roi_voxels=100_000,
        steps_per_epoch=epoch,
        validation_windows=windows,
        usual_interval=4,
    )
    return minutes_, interval


def test_validations_take_a_tenth_of_the_time():
    minutes, interval = schedule()  # 40 epochs of 30 s; a validation of 10 s; 12 of them are a tenth
    assert "1,200 steps of 1 s, measured here, which are 40.0 epochs of 30" in minutes.reason
    assert interval.value == 4
    assert schedule(windows=100_000)[1].value == 40, "at least the last epoch has one"
    assert schedule(windows=1)[1].value == 2, "25 at most"
    assert schedule(windows=1, epoch=10_000)[1].value == 1
    assert schedule(0)[1].value == 4
    assert schedule(cost=None)[1].value == 4


def test_steps_that_are_too_few_are_told():
    assert "10 steps are too few to learn from" in schedule(10 / 60)[0].reason


def test_the_windows_of_a_volume_cover_it():
    assert window_count([100, 100, 60], [64, 64, 32], overlap=0.0) == 2 * 2 * 2
    assert window_count([65, 64, 32], [64, 64, 32], overlap=0.5) == 2


# --- folds, prediction, advice, warnings


def test_folds_are_those_of_the_cohort_or_as_many_as_patients_allow():
    assert plan_folds(cohort(folds=((16, 4),) * 5)).value == 5
    assert plan_folds(cohort()).value == 5
    assert plan_folds(cohort(patients=3)).value == 3
    one = plan_folds(cohort(cases=5, patients=1))
    assert one.value == 0
    assert "all 5 cases are of one patient" in one.reason
    assert "there is one case" in plan_folds(cohort(cases=1, patients=1)).reason


def test_empty_windows_are_looked_at_where_a_region_is_constant():
    assert plan_skip_empty(cohort()).value is True
    level = region("air", inside=(intensities(0, 0, std=0.0),))
    assert plan_skip_empty(cohort(level)).value is False


def names(*candidates, minutes=20.0):
    return plan_bundle_choice([Candidate(*one) for one in candidates], device="cpu", minutes=minutes).value


def test_the_most_accurate_with_enough_steps_is_advised():
    assert names(("a", 2, 5000), ("b", 1, 2000), ("c", 3, 9000)) == "b"
    assert names(("a", 2, 5000), ("b", 1, 200), ("c", 3, 9000)) == "a"
    assert names(("a", 2, 90), ("b", 1, 85), ("c", 3, 100)) == "b", "nearly as many steps as the most"
    assert names(("a", 2, 90), ("b", 1, 20)) == "a"
    assert names(("a", 2, None), ("b", 1, None, "no"), minutes=0.0) == "a"
    assert names(("b", 1, None, "it halves single slices")) is None


def test_what_cannot_succeed_is_told():
    facts = cohort(
        region(),
        region("lesion", cases=0),
        cases=20,
        looked_at=10,
        channels=("T1", "T2"),
        constant=("T2",),
        folds=((16, 4), (16, 4)),
        region_cases={"organ": ((8, 2), (0, 10)), "lesion": ((0, 0), (0, 0))},
        unlike=("fold 1: others",),
    )
    told = plan_warnings(facts)
    assert told == [
        "lesion is in no case of the 10 that were read: a network cannot learn it",
        "organ is in no training case of fold 1 of the 10 that were read: that fold cannot learn it",
        "channel T2 holds one value in each image that was read: it tells a network nothing",
        "fold 1: others",
    ]
    assert plan_warnings(cohort(patients=1))[0].startswith("all 20 cases are of one patient")
    assert "nothing can be validated" in plan_warnings(cohort(cases=1, patients=1))[0]
    assert plan_warnings(cohort()) == []


def test_a_decision_is_the_same_after_json():
    decision = Decision("a", [1, 2], "b", "c")
    assert Decision.from_json(decision.to_json()) == decision
