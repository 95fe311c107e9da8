"""A bundle as an algorithm of Auto3DSeg: MONAI's own BundleGen, data list, training command and ensemble."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tiny_bundle
from monai.apps.auto3dseg import AlgoEnsembleBestByFold, AlgoEnsembleBuilder, BundleGen, import_bundle_algo_history

from volseg.bundle import find
from volseg.deploy.auto3dseg import cohort_list, fold_number, write_template
from volseg.errors import BundleError, UsageError
from volseg.inference import Predictor
from volseg.labels import LabelTable

SOURCE = {"name": "t", "task": "segmentation", "modality": "mri", "dataroot": "/data", "class_names": ["a", "b"]}
PAIR = {"image": "i/c1.nii.gz", "label": "l/c1.nii.gz", "fold": 0}


def stats(values: list[int], channels: int = 1) -> dict[str, Any]:
    return {"stats_summary": {"label_stats": {"labels": values}, "image_stats": {"channels": {"max": channels}}}}


def test_a_data_source_becomes_a_list_to_convert():
    made = cohort_list(SOURCE, {"training": [PAIR], "testing": [{"image": "x"}]}, stats([0, 1, 2]))
    assert made["labels"] == {"background": 0, "a": 1, "b": 2}
    assert made["channel_names"] == {"0": "MRI"}
    assert made["training"] == [{"image": "/data/i/c1.nii.gz", "label": "/data/l/c1.nii.gz", "fold": 0}]
    unnamed = cohort_list({**SOURCE, "class_names": None}, {"training": [PAIR]}, stats([0, 1], channels=4))
    assert unnamed["labels"] == {"background": 0, "class_1": 1}
    assert list(unnamed["channel_names"].values()) == ["MRI_0", "MRI_1", "MRI_2", "MRI_3"]
    files = [{**PAIR, "image": ["i/t1.nii.gz", "i/t2.nii.gz"]}]
    assert cohort_list(SOURCE, {"training": files}, {})["channel_names"] == {"0": "MRI_0", "1": "MRI_1"}
    with_background = {**SOURCE, "class_names": ["background", "a", "b"]}
    assert cohort_list(with_background, {"training": [PAIR]}, {})["labels"] == made["labels"]


def test_regions_of_several_values_are_painted_by_the_value_of_their_own():
    """BraTS: whole tumour 1, 2, 4 holds the core 1, 4, which holds the enhancing part 4."""
    names = [{"name": "wt", "index": [1, 2, 4]}, {"name": "tc", "index": [1, 4]}, {"name": "et", "index": 4}]
    made = cohort_list({**SOURCE, "class_names": names}, {"training": [PAIR]}, stats([0, 1, 2, 4]))
    assert made["labels"] == {"background": 0, "wt": [1, 2, 4], "tc": [1, 4], "et": 4}
    assert made["regions_class_order"] == [2, 1, 4]
    assert LabelTable.from_dataset_json(made).names == ("wt", "tc", "et")


@pytest.mark.parametrize(
    ("source", "data", "values", "told"),
    [
        ({}, {"training": []}, [], "holds no case"),
        ({}, {"training": [{"label": "x"}]}, [], "image"),
        ({}, {"training": [{"image": "x", "label": "y"}]}, [], "gives no case a"),
        ({"class_names": None}, {"training": [PAIR]}, [], "names no classes"),
        ({"class_names": None}, {"training": [PAIR]}, [0, 1, 3], "number them 0, 1, 2"),
        ({"class_names": ["a"]}, {"training": [PAIR]}, [0, 1, 2], "hold the value 2, class_names names 1"),
        ({"class_names": ["a", "a"]}, {"training": [PAIR]}, [], "twice"),
        ({"class_names": [{"name": "a", "index": 1}] * 2}, {"training": [PAIR]}, [], "twice"),
    ],
)
def test_what_a_data_source_lacks_is_said(source, data, values, told):
    with pytest.raises(UsageError, match=told):
        cohort_list({**SOURCE, **source}, data, stats(values) if values else {})


def test_folds_are_counted_without_gaps():
    data = {"training": [{"fold": 3}, {"fold": 0}, {"fold": "1"}]}
    assert [fold_number(data, fold) for fold in (0, 1, 3)] == [0, 1, 2]
    assert fold_number({"training": [{}], "validation": [{}]}, 0) == 0
    with pytest.raises(UsageError, match="has the fold 2, there are"):
        fold_number(data, 2)


def test_a_template_is_whole_and_replaces_nothing(tmp_path):
    bundle = tiny_bundle.write_bundle(tmp_path / "My_net-2")
    made = write_template(bundle, tmp_path / "templates")
    assert made.name == "volsegmynet2"
    assert "class Volsegmynet2Algo(VolsegAlgo)" in (made / "scripts" / "algo.py").read_text()
    assert find(made / "bundle" / "My_net-2")
    assert [path.name for path in (tmp_path / "templates").iterdir()] == ["volsegmynet2"]
    with pytest.raises(UsageError, match="is there already"):
        write_template(bundle, tmp_path / "templates")
    with pytest.raises(BundleError, match="did you mean unet"):
        write_template("unett", tmp_path / "templates")


def write_data(folder: Path, *, cases: int = 4) -> dict[str, Any]:
    """Volumes with a bright block of the value 1 and a darker one of 2, on a grid that is oblique to none."""
    random = np.random.default_rng(0)
    affine = np.diag([-2.0, -2.0, 3.0, 1.0])
    training = []
    for number in range(cases + 1):
        label = np.zeros((32, 24, 20), np.uint8)
        label[4:14, 4:18, 4:14], label[18:28, 4:18, 4:14] = 1, 2
        image = (100.0 * (label == 1) + 50.0 * (label == 2) + random.normal(0, 10, label.shape)).astype(np.float32)
        for kind, voxels in (("image", image), ("label", label)):
            nibabel.save(nibabel.Nifti1Image(voxels, affine), folder / f"{kind}_c{number}.nii.gz")
        training.append({"image": f"image_c{number}.nii.gz", "label": f"label_c{number}.nii.gz", "fold": number % 2})
    last = training.pop()
    (folder / "list.json").write_text(json.dumps({"training": training, "testing": [{"image": last["image"]}]}))
    source = {**SOURCE, "dataroot": str(folder), "datalist": "list.json"}
    (folder / "source.json").write_text(json.dumps(source))
    return source


def generate(tmp_path: Path, bundle: Path | str) -> Path:
    write_template(bundle, tmp_path / "templates")
    work = tmp_path / "work"
    work.mkdir()
    made = BundleGen(
        algo_path=str(work),
        templates_path_or_url=str(tmp_path / "templates"),
        data_src_cfg_name=str(tmp_path / "source.json"),
    )
    made.generate(str(work), num_fold=2)
    return work


def ensemble(work: Path, source: Path, **params: object) -> Any:
    history = import_bundle_algo_history(str(work), only_trained=True)
    builder = AlgoEnsembleBuilder(history, str(source))
    builder.data_src_cfg["datalist"] = str(source.parent / "list.json")
    builder.set_ensemble_method(AlgoEnsembleBestByFold(n_fold=2))
    saved = {"_target_": "SaveImage", "output_dir": str(work / "out"), "separate_folder": False, "print_log": False}
    saved |= {"output_dtype": "$np.uint8", "resample": False, "savepath_in_metadict": True, "output_postfix": "e"}
    return builder.get_ensemble()({"image_save_func": saved, **params})


def pretend_training(work: Path, labels: LabelTable) -> list[Path]:
    """What the training of both folds leaves, without one."""
    checkpoints = []
    for number, folder in enumerate(sorted(work.glob("volseg*_?"))):
        (folder / "model").mkdir()
        checkpoints.append(tiny_bundle.write_checkpoint(folder / "model" / "model.pt", labels, spacing_mm=(2, 2, 3)))
        (folder / "progress.yaml").write_text(json.dumps([{"best_avg_dice_score": 0.5 + number / 10}]))
    return checkpoints


def test_monai_makes_folds_reads_scores_and_saves_an_ensemble(tmp_path):
    write_data(tmp_path)
    bundle = tiny_bundle.write_bundle(tmp_path / "tiny")
    work = generate(tmp_path, bundle)
    assert sorted(path.name for path in work.glob("volseg*")) == ["volsegtiny_0", "volsegtiny_1"]
    assert import_bundle_algo_history(str(work), only_trained=True) == []
    checkpoints = pretend_training(work, LabelTable.exclusive(["a", "b"]))
    history = import_bundle_algo_history(str(work), only_trained=True)
    assert [round(entry["best_metric"], 2) for entry in history] == [0.5, 0.6]
    (saved,) = ensemble(work, tmp_path / "source.json", overlap=0.25)
    image = tmp_path / "image_c4.nii.gz"
    one = Predictor.from_bundle(bundle, checkpoint=checkpoints[0], overrides={"overlap": 0.25}).predict(
        [image], key="k"
    )
    mine = nibabel.load(saved)
    assert np.array_equal(np.asarray(mine.dataobj), one.label_map.voxels)
    assert len(np.unique(one.label_map.voxels)) == 3
    assert np.array_equal(mine.affine, nibabel.load(image).affine)


def test_regions_are_a_channel_each_whether_they_overlap_or_not(tmp_path):
    """`sigmoid: true` of the data source goes with them: MONAI then takes each channel above one half."""
    source = write_data(tmp_path)
    names = [{"name": "a", "index": [1]}, {"name": "b", "index": [2]}]
    (tmp_path / "source.json").write_text(json.dumps({**source, "class_names": names}))
    work = generate(tmp_path, tiny_bundle.write_bundle(tmp_path / "tiny"))
    pretend_training(work, LabelTable.exclusive(["a", "b"]))
    history = import_bundle_algo_history(str(work), only_trained=True)
    (seen,) = history[0]["algo_instance"].predict([{"image": str(tmp_path / "image_c4.nii.gz")}])
    assert seen.shape == (2, 32, 24, 20)
    assert 0 < float(seen.max()) <= 1


def test_an_untrained_fold_and_an_unfilled_template_are_said(tmp_path):
    from volseg.deploy.auto3dseg import ProbabilityInferer, train

    write_data(tmp_path)
    work = generate(tmp_path, tiny_bundle.write_bundle(tmp_path / "tiny"))
    with pytest.raises(UsageError, match="train this fold first"):
        ProbabilityInferer([str(work / "volsegtiny_0" / "configs" / "hyper_parameters.yaml")])
    with pytest.raises(UsageError, match="generate the algorithm with BundleGen"):
        train(str(tmp_path / "templates" / "volsegtiny" / "configs" / "hyper_parameters.yaml"))


@pytest.mark.slow
def test_a_training_of_an_epoch_by_monai_and_the_ensemble_of_both_folds(tmp_path):
    write_data(tmp_path)
    bundle = tiny_bundle.write_bundle(tmp_path / "tiny")
    work = generate(tmp_path, bundle)
    given = {"num_epochs": 1, "num_epochs_per_validation": 1, "num_warmup_epochs": 1, "crops_per_case": 1}
    for entry in import_bundle_algo_history(str(work), only_trained=False):
        algo = entry["algo_instance"]
        algo.train({**given, "loader_workers": 0, "roi_size": "[32,16,16]"})
        run = json.loads((Path(algo.output_path) / "model" / "run.json").read_text())
        assert algo.get_score() == (run["best"] or {"dice": 0})["dice"]
        assert run["cohort"]["training_cases"] == run["cohort"]["validation_cases"] == 2
    (saved,) = ensemble(work, tmp_path / "source.json")
    first, second = (
        Predictor.from_bundle(bundle, checkpoint=folder / "model" / "model.pt") for folder in sorted(work.glob("*_?"))
    )
    both = first.with_members([second]).predict([tmp_path / "image_c4.nii.gz"], key="k")
    differ = np.mean(np.asarray(nibabel.load(saved).dataobj) != both.label_map.voxels)
    assert differ <= 1e-3  # probabilities that are equal but for rounding
