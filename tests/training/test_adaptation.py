"""A patient's own network: what it sees, what it may predict, and that a stop loses nothing."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import jsonschema
import pytest
import torch
from bent_days import bend_all
from command import told
from job_report import SCHEMA
from tiny_bundle import ROI, network, write_bundle
from treatment_days import write_days

import volseg.inference
import volseg.transforms
from volseg.bundle import Recipe, read_recipe
from volseg.cohort import Adaptation, Cohort, adapted_networks, check_unseen, network_for, write_labels
from volseg.cohort.table import write_table
from volseg.errors import CohortError, UsageError
from volseg.inference import MixedPrecision, ParallelWindows
from volseg.labels import prior_channels
from volseg.training import Adapting, adapt, write_network
from volseg.training.adaptation.adapt import _USUAL, _learning
from volseg.training.adaptation.state import CLEARLY, State
from volseg.training.adaptation.windows import Slab, base_items, own_items, windows_of
from volseg.transforms import IGNORED, augmentation
from volseg.volume import Volume, read_volume, write_volume


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_days(tmp_path_factory.mktemp("days"), patients=("a", "b", "c"))


@pytest.fixture(scope="module")
def run(tmp_path_factory, cohort):
    return make_run(tmp_path_factory.mktemp("run"), cohort)


def make_run(folder, cohort, *, prior=False, **more):
    folder.mkdir(exist_ok=True)
    bundle = write_bundle(folder / "bundle")
    names = ["MR", *(prior_channels(["MR"], ["ball"]) if prior else ())]
    schemes = [{"scheme": name} for name in ("mr", "mr", "none", "none")[: len(names)]]
    facts = {"cohort": str(cohort.folder), "fold": 0, **more}
    recipe = Recipe(cohort.labels, names, [4, 4, 4], list(ROI), {"feature_size": 12, "window_size": 4}, facts, schemes)
    weights = network(cohort.labels, channels=len(names)).state_dict()
    (folder / "run").mkdir()
    torch.save({"model": weights, "recipe": recipe.state_dict()}, folder / "run" / "model.pt")
    (folder / "run" / "train.json").write_text(json.dumps({"bundle_root": str(bundle), "learning_rate": 0.02}))
    return folder / "run"


def work(run, cohort, **given):
    return Adapting(run, cohort, "c", **{"minutes": 0.03, "device": "cpu", **given})


def test_only_sessions_before_are_learnt_from(run, cohort):
    assert work(run, cohort).adaptation.sessions == ("day0", "day9", "day10")
    assert work(run, cohort, before="day10").adaptation.keys == ("c_day0", "c_day9")
    assert work(run, cohort, before="day10").target == run / "adapted" / "c" / "after_day9.pt"
    with pytest.raises(UsageError, match="no session with a label before day0"):
        _ = work(run, cohort, before="day0").sessions
    with pytest.raises(UsageError, match="has the sessions day0, day9, day10, and no day7"):
        _ = work(run, cohort, before="day7").sessions
    with pytest.raises(UsageError, match="has no patient x; name one such as a"):
        _ = Adapting(run, cohort, "x").sessions


def test_steps_end_it_whatever_the_time(tmp_path, cohort):
    run = make_run(tmp_path, cohort)
    target = adapt(work(run, cohort, before="day9", minutes=1e-9, steps=3))
    record = json.loads(target.with_suffix(".json").read_text())
    assert record["steps"] == 3
    assert record["processor_seconds"] > 0


def test_the_command_that_comes_next_can_be_typed(tmp_path, cohort, capsys):
    run = make_run(tmp_path, cohort)
    words = ("--patient", "c", "--before", "day9", "--steps", 1, "--device", "cpu", "--bundle", run.parent / "bundle")
    code, text = told(capsys, "adapt", run, cohort.folder, *words)
    assert code == 0, text
    following = text.partition("next: volseg ")[2].split()
    code, text = told(capsys, *following[:-1], tmp_path / "out", "--engine", "torch", "--device", "cpu")
    assert code == 0, text
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == len(cohort.rows)
    # The report is of the whole command, not of the network that came last.
    report = json.loads((tmp_path / "out" / "run_report.json").read_text())
    jsonschema.validate(report, SCHEMA)
    assert report["status"] == "finished"
    assert (report["cases"]["all"], report["cases"]["done"]) == (len(cohort.rows), len(cohort.rows))
    used = (run / "model.pt", run / "adapted" / "c" / "after_day0.pt")
    assert {one["sha256"] for one in (report["checkpoint"], *report["ensemble"])} == {
        hashlib.sha256(path.read_bytes()).hexdigest() for path in used
    }
    code, text = told(capsys, *following[:-1], tmp_path / "out", "--engine", "torch", "--device", "cpu")
    report = json.loads((tmp_path / "out" / "run_report.json").read_text())
    assert (report["cases"]["all"], report["cases"]["done_before"]) == (len(cohort.rows), len(cohort.rows))


@pytest.mark.parametrize(("of_run", "taken"), [("fp32", "fp32"), ("bf16", "auto"), (None, "auto")])
def test_steps_are_as_exact_as_those_of_the_run(tmp_path, cohort, monkeypatch, of_run, taken):
    run = make_run(tmp_path, cohort)
    config = json.loads((run / "train.json").read_text())
    (run / "train.json").write_text(json.dumps({**config, **({} if of_run is None else {"precision": of_run})}))
    made = []

    class Noted(MixedPrecision):
        def __call__(self, inputs, network, *args, **kwargs):
            made.append((self.precision, type(self.inferer), len(inputs), network.training))
            return super().__call__(inputs, network, *args, **kwargs)

    monkeypatch.setattr(volseg.inference, "MixedPrecision", Noted)
    adapt(work(run, cohort, before="day9", steps=2))
    assert made == [(taken, ParallelWindows, 2, True)] * 2


@pytest.mark.parametrize("wrong", [{"layers": "some"}, {"minutes": 0}, {"base_share": 1.0}, {"steps": 0}])
def test_settings_are_checked(run, cohort, wrong):
    with pytest.raises(UsageError, match="must be"):
        work(run, cohort, **wrong)


def test_adapts_records_what_it_saw_and_leaves_the_run_alone(run, cohort):
    before = (run / "model.pt").read_bytes()
    told = []
    target = adapt(work(run, cohort, before="day10"), told=told.append)
    assert (run / "model.pt").read_bytes() == before
    facts = read_recipe(target).facts["adapted"]
    assert facts == {"patient": "c", "sessions": ["day0", "day9"], "keys": ["c_day0", "c_day9"]}
    record = json.loads(target.with_suffix(".json").read_text())
    assert record["slab_after"] >= record["slab_before"] - CLEARLY
    assert record["steps"] > 0
    assert told
    assert not target.with_suffix(".state").exists()
    stamp = target.stat().st_mtime_ns
    assert adapt(work(run, cohort, before="day10")) == target
    assert target.stat().st_mtime_ns == stamp, "what is finished is not done again"
    networks = adapted_networks(run)
    assert network_for(cohort.rows["c_day10"], networks, cohort) == target
    for key in ("c_day0", "c_day9", "a_day10"):
        assert network_for(cohort.rows[key], networks, cohort) is None


def test_a_killed_adaptation_goes_on(tmp_path, cohort):
    run = make_run(tmp_path, cohort)

    class Killed(BaseException):
        pass

    def kill(line):
        if line.startswith("step"):
            raise Killed

    asked = work(run, cohort, before="day9", layers="decoder")
    with pytest.raises(Killed):
        adapt(asked, told=kill)
    state = asked.target.with_suffix(".state")
    assert state.is_file()
    assert not asked.target.exists()
    lines: list[str] = []
    target = adapt(asked, told=lines.append)
    assert target.is_file()
    assert not any(line.startswith("before") for line in lines), "it began where it was stopped"


@pytest.mark.parametrize("prior", [False, True])
def test_an_adaptation_that_goes_on_equals_an_unbroken_one_to_the_bit(tmp_path, cohort, prior):
    """It began with the windows of the first step again: a network that is stopped often saw a few windows alone."""

    class Killed(BaseException):
        pass

    def kill_at(steps):
        def told(line):
            if line.startswith(tuple(f"step {step}," for step in steps)):
                raise Killed

        return told

    found = []
    for name, stops in (("unbroken", ()), ("stopped", (2, 4))):
        (tmp_path / name).mkdir()
        asked = work(make_run(tmp_path / name, cohort, prior=prior), cohort, before="day10", steps=6)
        for stop in stops:
            with pytest.raises(Killed):
                adapt(asked, told=kill_at([stop]))
        target = adapt(asked)
        record = json.loads(target.with_suffix(".json").read_text())
        found.append((torch.load(target, weights_only=True)["model"], record["slab_after"], record["kept_after_steps"]))
    (weights, *scores), (again, *scores_again) = found
    assert scores == scores_again
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_each_step_has_windows_of_its_own(run, cohort):
    asked = work(run, cohort, before="day10", base_share=0.0)
    recipe = read_recipe(run / "model.pt")
    own = own_items(asked, recipe, Slab.of(asked, recipe))
    images = [image for _, (image, _) in zip(range(4), windows_of(asked, recipe, own, []), strict=False)]
    assert all(not torch.equal(one, other) for one, other in itertools.combinations(images, 2))
    (third, _) = next(windows_of(asked, recipe, own, [], first=3))
    assert torch.equal(third, images[2])
    (other, _) = next(windows_of(work(run, cohort, before="day10", seed=1), recipe, own, [], first=3))
    assert not torch.equal(third, other)


@pytest.mark.parametrize(("dropout", "empty"), [(1.0, True), (0.0, False)])
def test_windows_are_shown_without_a_prior_as_often_as_in_the_training(tmp_path, cohort, monkeypatch, dropout, empty):
    run = make_run(tmp_path, cohort, prior=True)
    config = json.loads((run / "train.json").read_text())
    (run / "train.json").write_text(json.dumps({**config, "prior": True, "prior_dropout": dropout}))
    shown = []

    def windows(*given, **options):
        for images, labels in windows_of(*given, **options):
            shown.append(images)
            yield images, labels

    monkeypatch.setattr("volseg.training.adaptation.adapt.windows_of", windows)
    target = adapt(work(run, cohort, before="day10", base_share=0.0, steps=3, cache_dir=tmp_path))
    assert json.loads(target.with_suffix(".json").read_text())["identity"]["prior_dropout"] == dropout
    known = torch.cat(shown)[:, -1]  # where the prior tells anything
    assert not known.any() if empty else known.flatten(1).any(dim=1).all()


def test_windows_are_drawn_and_changed_as_in_the_training(tmp_path, cohort, monkeypatch):
    made = []

    def noted(*given, **options):
        made.append(options)
        return augmentation(*given, **options)

    monkeypatch.setattr(volseg.transforms, "augmentation", noted)
    run = make_run(tmp_path, cohort)
    config = json.loads((run / "train.json").read_text())
    usual = {name: one.default for name, one in inspect.signature(augmentation).parameters.items() if name in _USUAL}
    assert usual == _USUAL
    identities = []
    for stated in ({}, {**usual, "flip_axes": []}, {"flip_axes": [0], "background_share": 0.2, "affine_prob": 0.7}):
        (run / "train.json").write_text(json.dumps({**config, **stated}))
        target = adapt(work(run, cohort, before="day9", steps=1))
        identities.append(json.loads(target.with_suffix(".json").read_text())["identity"])
    assert identities[0] == identities[1]
    assert len(made) == 2, "the usual settings make the network that there was before"
    assert not {"flip_axes", *_USUAL} & set(made[0])
    assert (made[1]["flip_axes"], made[1]["background_share"]) == ([0], 0.2)
    assert identities[2]["windows"] == {"flip_axes": [0], "background_share": 0.2}


def test_mirrored_windows_of_a_run_that_mirrors(run, cohort):
    asked = work(run, cohort, before="day10", base_share=0.0)
    recipe = read_recipe(run / "model.pt")
    own = own_items(asked, recipe, Slab.of(asked, recipe))
    for item in own:  # rises to the right everywhere
        item["image"] = (
            torch.arange(item["image"].shape[1], dtype=torch.float32).view(1, -1, 1, 1).expand(item["image"].shape)
        )
    for axes, signs in (([], {1}), ([0], {-1, 1})):
        windows = windows_of(asked, recipe, own, [], changes={"flip_axes": axes, "affine_prob": 0.0})
        rises = torch.cat([image for _, (image, _) in zip(range(8), windows, strict=False)]).diff(dim=2)
        assert {int(one) for one in rises.mean(dim=(1, 2, 3, 4)).sign()} == signs


@pytest.mark.parametrize("fold", ["all", 7])
def test_a_run_of_all_cases_is_adapted_and_so_is_one_of_a_cohort_with_more_folds(tmp_path, cohort, fold):
    assert cohort.has_folds
    run = make_run(tmp_path, cohort)
    recipe = read_recipe(run / "model.pt")
    recipe = replace(recipe, facts={**recipe.facts, "fold": fold})
    keys = [one["key"] for one in base_items(work(run, cohort, before="day10"), recipe)]
    assert keys
    assert not any(key.startswith("c_") for key in keys)


def test_a_network_of_deformed_priors_adapts_with_these_and_says_so_again(tmp_path, cohort, monkeypatch):
    run = make_run(tmp_path, cohort, prior=True, prior_alignment="deformable")
    assert read_recipe(run / "model.pt").prior_alignment == "deformable"
    bend_all(monkeypatch, 4.0)
    target = adapt(work(run, cohort, before="day10", steps=1, cache_dir=tmp_path))
    assert read_recipe(target).prior_alignment == "deformable"
    assert list((tmp_path / "alignments").glob("*.npz"))


@pytest.mark.parametrize("layers", ["norms", "norms+head"])
def test_a_network_with_a_prior_adapts_too_and_keeps_the_one_without(tmp_path, cohort, layers):
    run = make_run(tmp_path, cohort, prior=True)
    (tmp_path / "plain").mkdir()
    plain = make_run(tmp_path / "plain", cohort) / "model.pt"
    write_network(run / "model.pt", run / "model.pt", without_prior=plain)
    target = adapt(work(run, cohort, before="day9", steps=2, cache_dir=tmp_path, layers=layers))
    assert read_recipe(target).takes_prior
    kept = torch.load(target, weights_only=True)["without_prior"]["model"]
    assert all(torch.equal(kept[name], value) for name, value in network(cohort.labels).state_dict().items())


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ((0.6, 0.58 + 1e-9, 0.61), 2),  # a little worse, then better
        ((0.6, 0.595, 0.59), 2),  # within what so few voxels may differ by: the last one saw most
        ((0.6, 0.5, 0.55), 0),  # clearly worse than the run's own
        ((0.6, 0.7, 0.69, 0.66), 2),  # clearly worse than the best, not than the one before
        ((0.6, 0.59, 0.575), 1),  # the best counts, so small steps down do not add up
    ],
)
def test_the_last_weights_are_kept_unless_earlier_ones_are_clearly_better(tmp_path, scores, kept):
    layer = torch.nn.Linear(1, 1)
    state = State(layer, torch.optim.AdamW(layer.parameters()), tmp_path / "state", {})
    for step, score in enumerate(scores):
        state.steps = step
        state.mean = {name: torch.full_like(value, step) for name, value in state.mean.items()}
        state.note(score)
    assert state.kept_step == kept
    assert all((value == kept).all() for value in state.best.values())


def test_no_window_holds_the_slab_and_it_goes_across_the_axis_with_most_room(run, cohort):
    asked = work(run, cohort, before="day10")
    recipe = read_recipe(run / "model.pt")
    slab = Slab.of(asked, recipe)
    assert slab.key == "c_day9"
    shape = slab.label.shape[1:]
    room = [(shape[n] - 1) / 2 / ROI[n] for n in range(3)]
    assert room[slab.axis] == max(room)
    held = slab.label.narrow(1 + slab.axis, slab.first, slab.last - slab.first)
    assert held.any()
    items = own_items(asked, recipe, slab)
    assert [item["key"] for item in items] == ["c_day0", "c_day9", "c_day9"]
    voxels = sum(int((item["label"] > 0).sum()) for item in items[1:])
    assert voxels == int((slab.label > 0).sum()) - int((held > 0).sum())
    assert all(tuple(item["image"].shape[1:]) >= tuple(ROI) for item in items)


@pytest.mark.parametrize("overlap", [False, True])
def test_no_voxel_counts_on_the_slab_that_nobody_looked_at(run, cohort, overlap):
    slab = Slab.of(work(run, cohort, before="day10"), read_recipe(run / "model.pt"))
    channels = 1 if overlap else 2
    truth = slab.label if overlap else torch.cat([1 - slab.label, slab.label])
    right = 2.0 * truth - 1  # logits
    unseen = torch.zeros_like(slab.label, dtype=torch.bool)
    unseen.narrow(1 + slab.axis, slab.first, (slab.last - slab.first) // 2)[:] = True
    wrong = torch.where(unseen, -right, right)

    def predictor(logits):
        found = SimpleNamespace(device="cpu")

        def inferer(seen, _):
            low = max(0, slab.first - slab.roi[slab.axis] // 2)
            return logits.narrow(1 + slab.axis, low, seen.shape[2 + slab.axis])[None]

        found.inferer = inferer
        return found

    network = torch.nn.Identity()
    assert slab.dice(predictor(right), network) == 1.0
    assert right.shape[0] == channels
    assert slab.dice(predictor(wrong), network) < 1.0
    label = torch.where(unseen, IGNORED, slab.label).to(slab.label.dtype)
    assert replace(slab, label=label).dice(predictor(wrong), network) == 1.0


def test_the_slab_goes_through_what_was_looked_at(run, tmp_path):
    days = write_days(tmp_path, patients=("a", "b", "c"))
    path = days.label_path("c_day9")
    label = read_volume(path)
    before = Slab.of(work(run, days, before="day10"), read_recipe(run / "model.pt"))
    voxels = label.voxels.copy()
    voxels[:, :, -6:] = 2
    write_volume(path, Volume(voxels, label.affine_ras))
    dataset = json.loads((days.folder / "dataset.json").read_text())
    dataset["labels"]["ignore"] = 2
    (days.folder / "dataset.json").write_text(json.dumps(dataset))
    asked = work(run, Cohort.open(days.folder), before="day10", base_share=0.0, steps=2)
    slab = Slab.of(asked, read_recipe(run / "model.pt"))
    assert (slab.label == IGNORED).any()
    assert (slab.axis, slab.first, slab.last) == (before.axis, before.first, before.last)
    target = adapt(replace(asked, run=make_run(tmp_path / "other", days)))  # its recipe knows no label `ignore`
    assert json.loads(target.with_suffix(".json").read_text())["steps"] == 2


def test_the_slab_of_a_network_with_a_prior_is_shown_the_session_before(tmp_path, cohort):
    recipe = read_recipe(make_run(tmp_path, cohort, prior=True) / "model.pt")
    slab = Slab.of(work(tmp_path / "run", cohort, before="day10", cache_dir=tmp_path), recipe)
    assert (slab.key, slab.image.shape[0]) == ("c_day9", 4)
    assert slab.image[1:].flatten(1).any(dim=1).all(), "image, contours and where they are known"
    alone = Slab.of(work(tmp_path / "run", cohort, before="day9", cache_dir=tmp_path), recipe)
    assert (alone.key, bool(alone.image[1:].any())) == ("c_day0", False)


def test_layers_that_learn(cohort):
    made = network(cohort.labels)
    names = {id(value): name for name, value in made.named_parameters()}

    def learning(layers):
        return {names[id(value)] for value in _learning(made, layers, channels=cohort.labels.channels)}

    everything = set(names.values())
    assert learning("all") == everything
    assert learning("decoder") < everything
    head = Head()
    found = [
        name
        for name, value in head.named_parameters()
        for one in _learning(head, "norms+head", channels=2)
        if one is value
    ]
    assert found == ["norm.weight", "norm.bias", "heads.0.weight", "heads.0.bias"]
    assert len(_learning(head, "norms", channels=2)) == 2


class Head(torch.nn.Module):
    """A layer, its normalisation, and a layer with a channel per region."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv3d(1, 4, 3)
        self.norm = torch.nn.GroupNorm(2, 4)
        self.heads = torch.nn.ModuleList([torch.nn.Conv3d(4, 2, 1)])


def test_no_label_of_the_day_itself_or_later_can_be_read(tmp_path):
    cohort = write_days(tmp_path / "days")
    run = make_run(tmp_path, cohort)
    for key in ("b_day9", "b_day10"):
        cohort.label_path(key).write_bytes(b"planted")  # whoever reads it fails
    adapt(Adapting(run, cohort, "b", before="day9", minutes=0.01, device="cpu"))


def test_scores_of_what_was_seen_or_lies_before_are_refused(tmp_path, cohort):
    seen = Adaptation("c", ("day0", "day9"), ("c_day0", "c_day9"), cases=("c_day0", "c_day9", "c_day10"))
    write_labels(tmp_path, cohort.labels, channel_names=["MR"], made_with={"adapted": [seen.to_json()]})
    check_unseen(tmp_path, cohort, ["c_day10", "a_day0"])
    with pytest.raises(UsageError, match="c_day9 was predicted by a network that was adapted on it"):
        check_unseen(tmp_path, cohort, ["c_day10", "c_day9"])
    late = Adaptation("c", ("day9",), ("c_day9",))
    write_labels(tmp_path, cohort.labels, channel_names=["MR"], made_with={"adapted": [late.to_json()]})
    with pytest.raises(UsageError, match="c_day0 lies before or on the session day9"):
        check_unseen(tmp_path, cohort, ["c_day0"])
    other = Adaptation("c", ("day9",), ("c_day9",), cases=("c_day10",))
    write_labels(tmp_path, cohort.labels, channel_names=["MR"], made_with={"adapted": [other.to_json()]})
    check_unseen(tmp_path, cohort, ["c_day0"])


def test_sessions_without_an_order_of_time_are_no_earlier_days_of_each_other(tmp_path, run):
    """By the alphabet `post` lay before `pre`: its network predicted that day, and the scores said nothing."""
    unordered = write_days(tmp_path / "unordered", patients=("a", "c"), days=("post", "pre"))
    told = "c_pre: the sessions of c, post, pre, tell no order of time"
    with pytest.raises(CohortError, match=told.partition(": ")[2]):
        _ = work(run, unordered, before="pre").sessions
    assert [one.name for one in work(run, unordered).sessions] == ["post", "pre"]
    seen = Adaptation("c", ("post",), ("c_post",))
    assert network_for(unordered.rows["c_pre"], {run / "after_post.pt": seen}, unordered) is None
    write_labels(tmp_path, unordered.labels, channel_names=["MR"], made_with={"adapted": [seen.to_json()]})
    with pytest.raises(CohortError, match=told):
        check_unseen(tmp_path, unordered, ["c_pre"])
    check_unseen(tmp_path, unordered, ["a_pre"])


def test_a_second_scan_of_the_last_session_does_not_show_what_is_held_out(tmp_path):
    """The slab was in it, so that the weights that had learnt it by heart were kept."""
    twice = write_days(tmp_path / "twice", patients=("a", "c"), twins=("day9", "day10"))
    run = make_run(tmp_path / "made", twice)
    recipe = read_recipe(run / "model.pt")
    slab = Slab.of(work(run, twice), recipe)
    assert slab.key == "c_day10"
    keys = [one["key"] for one in own_items(work(run, twice), recipe, slab)]
    assert keys == ["c_day0", "c_day9", "c_day9x", "c_day10", "c_day10"], "two parts beside the slab"


def test_what_is_kept_for_a_test_is_not_learnt_from(tmp_path, cohort):
    """Neither a day of the patient nor, without folds, cases of others."""
    folder = tmp_path / "cohort"
    shutil.copytree(cohort.folder, folder)
    (folder / "splits.json").unlink()
    kept = {"c_day9": ("test",), "a_day0": ("test: of another scanner",), "b_day0": ("suspect: empty",)}
    rows = [replace(row, warnings=kept.get(key, ())) for key, row in cohort.rows.items()]
    write_table(folder / "cases.csv", rows)
    tested = Cohort.open(folder)
    run = make_run(tmp_path / "made", tested)
    assert work(run, tested).adaptation.keys == ("c_day0", "c_day10")
    recipe = read_recipe(run / "model.pt")
    keys = {one["key"] for seed in range(4) for one in base_items(work(run, tested, seed=seed), recipe)}
    assert keys == {"a_day9", "a_day10", "b_day9", "b_day10"}


def test_what_was_seen_is_known_from_a_dataset_json_that_was_saved_on_windows(tmp_path, cohort):
    seen = Adaptation("c", ("day9",), ("c_day9",))
    write_labels(tmp_path, cohort.labels, channel_names=["MR"], made_with={"adapted": [seen.to_json()]})
    path = tmp_path / "dataset.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8-sig")
    with pytest.raises(UsageError, match="c_day9 was predicted by a network that was adapted on it"):
        check_unseen(tmp_path, cohort, ["c_day9"])
    path.write_text(text.replace('"patient"', '"pat"'), encoding="utf-8")
    with pytest.raises(CohortError, match="does not tell what its networks were adapted on"):
        check_unseen(tmp_path, cohort, ["c_day9"])


def test_a_folder_without_adapted_networks_says_so(tmp_path):
    with pytest.raises(UsageError, match="holds no adapted network"):
        adapted_networks(tmp_path)
