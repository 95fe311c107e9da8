"""What the server does with a cohort and a network: list, choose, predict, take labels home."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import volseg
from volseg.cohort import (
    FILE_ENDING,
    Cohort,
    Prediction,
    check_key,
    read_bounds,
    read_uncertainty,
    write_prediction,
    write_uncertainty,
)
from volseg.deploy.corrections import OpenQuestionError, adopt, image_digest
from volseg.deploy.serve.ahead import Ahead
from volseg.deploy.serve.described import DescribedCases
from volseg.deploy.serve.held import HeldValues, begin_predictions, names_held
from volseg.deploy.serve.sessions import NotFoundError, Sessions, suffix_of
from volseg.deploy.serve.shown import Shown, client_of
from volseg.deploy.serve.strategies import STRATEGIES, NextCases
from volseg.deploy.serve.training import Training
from volseg.dicom import is_dicom
from volseg.errors import LabelError, UsageError
from volseg.files import locked
from volseg.formats import SEGMENTATION_SUFFIX, segment_values, write_segmentation
from volseg.labels import LabelTable, held_values, match_labels
from volseg.volume import Volume, image_suffix, read_image_file, read_volume, write_nrrd, write_volume

_LEASE_S = 1800.0  # for so long a case that one client was given is given to no other
_ORIGINAL, _FINAL, _NRRD = "original", "final", ".nrrd"
_TRAINER: dict[str, Any] = {"description": "Goes on from the network with the corrected cases", "config": {}}
logger = logging.getLogger("volseg.serve")


class Segmenter(Protocol):
    """A network that predicts one case; `volseg.inference.Predictor` is one."""

    @property
    def recipe(self) -> Any:  # noqa: ANN401 - volseg.bundle.Recipe
        """What it was trained on."""
        ...

    def predict(self, images: Sequence[str | Path | Volume], *, key: str) -> Prediction:
        """The prediction of the files of a case, one per channel."""
        ...


class Service:
    """The cohort, the network and the training behind the server.

    Args:
        name: Name of the network, for people and as the name of the model.
        cohort: Folder of the cohort.
        segmenter: The network; predictions are made one after the other.
        training: The training task.

    Raises:
        LabelError: The network has no region of the cohort.
    """

    def __init__(self, name: str, cohort: Path, segmenter: Segmenter, training: Training) -> None:
        self.name = name
        self.folder = cohort
        self.segmenter = segmenter
        self.training = training
        self.ahead = Ahead(self._predict_case)
        self.log: deque[str] = deque(maxlen=1000)
        self.place = cohort / ".volseg" / "serve"
        self.labels: LabelTable = segmenter.recipe.labels
        self._one = threading.Lock()
        self._home = (
            threading.RLock()
        )  # held by whoever changes the cohort, and while it is read: files move at an edit
        self._shown = Shown(_LEASE_S)
        # A network of quite other regions is refused before anything is served.
        self.match = match_labels(self.cohort().labels, self.labels)
        self.notes = self.match.notes
        begin_predictions(self.place, self.labels, channel_names=segmenter.recipe.image_channels)
        self.described = DescribedCases(self.place, self.match)
        self._next = NextCases(self.place, self.match, lease_s=_LEASE_S)
        self._held = HeldValues(self.place)
        self.sessions = Sessions()

    def close(self) -> None:
        """Stop the training and what is done ahead, and remove the images of sessions."""
        self.ahead.stop()
        self.described.close()
        if self.training.running:
            self.training.stop()
        self.sessions.close()

    def cohort(self) -> Cohort:
        """The cohort as it is now, never in the middle of a change by this server."""
        with self._home:
            return Cohort.open(self.folder)

    def info(self) -> dict[str, Any]:
        """What the server offers, as the plug-in reads it."""
        names = list(self.labels.names)
        model = {"type": "segmentation", "labels": names, "dimension": 3, "version": volseg.__version__}
        model |= {"description": f"volseg: {', '.join(names)}", "config": {}}
        return {
            "name": "volseg",
            "description": f"volseg {volseg.__version__}: {self.name}",
            "version": volseg.__version__,
            "labels": names,
            "models": {self.name: model},
            "trainers": {self.name: dict(_TRAINER)} if self.training.possible else {},
            "strategies": {name: {"description": text} for name, text in STRATEGIES.items()},
            "scoring": {},
            "train_stats": {self.name: {}},
            "datastore": self.status(),
        }

    def status(self) -> dict[str, Any]:
        """How many cases there are, and how many are labelled."""
        cohort = self.cohort()
        labelled = sorted(cohort.labelled)
        train = [{"image": f"{key}{FILE_ENDING}", "label": f"{_FINAL}/{key}{FILE_ENDING}"} for key in labelled]
        tags = {_FINAL: len(labelled), _ORIGINAL: len(list(self.place.glob(f"*{FILE_ENDING}")))}
        return {"total": len(cohort.keys), "completed": len(labelled), "label_tags": tags, "train": train}

    def datastore(self) -> dict[str, Any]:
        """Every case with its labels, as MONAI Label's local datastore has them; no path is told."""
        cohort = self.cohort()
        held = self._held.of([path for key in cohort.keys if (path := self._original(key)).is_file()])
        objects: dict[str, Any] = {}
        for key in cohort.keys:
            labels = {}
            for tag in (_FINAL, _ORIGINAL):
                if (path := self._label_file(cohort, key, tag)).is_file():
                    labels[tag] = self._label_facts(cohort, tag, held.get(path))
            objects[key] = {"image": {"ext": FILE_ENDING, "info": {"name": f"{key}{FILE_ENDING}"}}, "labels": labels}
        return {"name": cohort.folder.name, "description": "a cohort of volseg", "objects": objects}

    def label_info(self, key: str, tag: str) -> dict[str, Any]:
        """What is told of a label of a case: the names that it holds.

        Raises:
            NotFoundError: There is none.
        """
        cohort = self.cohort()
        path = self._label_file(cohort, key, tag)
        if key not in cohort.rows or tag not in (_FINAL, _ORIGINAL) or not path.is_file():
            raise NotFoundError(f"there is no label {tag} of {key}")
        return dict(self._label_facts(cohort, tag, held_values(read_volume(path).voxels).tolist())["info"])

    def _label_facts(self, cohort: Cohort, tag: str, held: Sequence[int] | None) -> dict[str, Any]:
        """The form of a label and its names: of the values that it holds, or of all of its table if these are None."""
        table = self.labels if tag == _ORIGINAL else cohort.labels
        names = dict(zip(table.names, segment_values(table), strict=True))
        if held is not None:
            names = names_held(held, table, layered=table.overlap)
        ending = SEGMENTATION_SUFFIX if table.overlap else FILE_ENDING
        return {"ext": ending, "info": {"params": {"label_names": names}}}

    def next_case(self, strategy: str, client: str) -> dict[str, Any]:
        """The case that a client is to look at; empty if there is none. Two clients are never given the same one.

        Args:
            strategy: One of `STRATEGIES`.
            client: Name of the client; empty if it gave none.

        Raises:
            NotFoundError: There is no such strategy.
        """
        if strategy not in STRATEGIES:
            raise NotFoundError(f"there is no strategy {strategy}; there are {', '.join(STRATEGIES)}")
        cohort = self.cohort()
        described = self.described.of(cohort) if strategy == "review" else {}
        with self._home:
            key = self._next.next(cohort, described, client)
        if not key:
            return {}
        return {"id": key, "name": f"{key}{FILE_ENDING}", "ts": int(time.time()), "strategy": strategy}

    def image(self, key: str) -> Path:
        """The image of a case.

        Raises:
            NotFoundError: There is no such case.
        """
        return self._files(key)[0]

    def _files(self, key: str) -> list[Path]:
        cohort = self.cohort()
        if key not in cohort.rows:
            raise NotFoundError(f"the cohort has no case {key}")
        return cohort.image_paths(key)

    def infer(self, key: str, *, session: str = "", ending: str = "", client: str = "") -> tuple[Path, dict[str, Any]]:
        """Predict a case, or the image of a session; returns the file and what is told with it.

        A case that a client of another name has before it is not predicted anew: both edits are compared with one file.

        Args:
            key: Key of the case.
            session: Name of a session instead.
            client: Name of the client; empty if it gave none.
            ending: Form that the client asks for; `.seg.nrrd` has layers and names. In a label map, such as `.nrrd`,
                which the plug-in for 3D Slicer asks for, each value is named, a combination after all its regions.
        """
        if session:
            key, files = session, [self.sessions.get(session).image]
        else:
            files = self._files(key)
        if not session and self._shown.to_another(key, client) and self._original(key).is_file():
            prediction = self._kept(key)
        else:
            prediction = self._predict(key, files, kept=not session)
        if not session:
            self._shown.add(key, client)
        names = {region.name: min(region.values) for region in self.labels.regions}
        if ending != SEGMENTATION_SUFFIX:
            held = held_values(prediction.label_map.voxels).tolist()
            names = names_held(held, self.labels, layered=False)
        facts = {"label_names": names, "expected_dice": dict(prediction.uncertainty), "note": prediction.note}
        if prediction.bounds:  # of a calibrated network
            facts["bounds"] = {name: one.to_json() for name, one in prediction.bounds.items()}
        # Only an edit of a case of the cohort comes home, and is then told from one of another image.
        image = "" if session or ending != SEGMENTATION_SUFFIX else image_digest(read_volume(files[0]))
        return self._given_out(key, prediction.label_map, ending or FILE_ENDING, table=self.labels, image=image), facts

    def _predict(self, key: str, files: Sequence[Path], *, kept: bool) -> Prediction:
        """Predict one case after the other; what is kept is what edits of the case are compared with."""
        began = time.monotonic()
        with self._one:
            prediction = self.segmenter.predict(files, key=key)
            if kept:
                write_prediction(self._original(key), prediction)
                write_uncertainty(self.place, {key: prediction.uncertainty}, bounds={key: prediction.bounds})
                self._held.of([self._original(key)])  # asked for with all others before a client has the case
        self.tell(f"predicted {key if kept else 'an image of a client'} in {time.monotonic() - began:.1f} s")
        return prediction

    def _kept(self, key: str) -> Prediction:
        """The prediction of a case that a client edits, as its files have it."""
        with self._one:
            promised = read_bounds(self.place).get(key, {})
            expected = read_uncertainty(self.place).get(key, {})
            label = read_volume(self._original(key))
        note = "as another client was shown it, who has not sent a label yet"
        return Prediction(label, expected, note=note, bounds=promised)

    def _original(self, key: str) -> Path:
        return self.place / f"{key}{FILE_ENDING}"

    def _predict_case(self, key: str) -> None:
        """Predict a case ahead; not while a client edits what was shown of it, which the edit is compared with."""
        if key not in self._shown:
            self._predict(key, self._files(key), kept=True)

    def predict_ahead(self, images: str) -> dict[str, Any]:
        """Predict all cases, or the unlabelled or labelled ones, in the background, those first that never were.

        Args:
            images: `unlabeled`, `labeled` or `all`, as MONAI Label has them.

        Raises:
            UsageError: It is another word.
        """
        cohort = self.cohort()
        parts = {"all": set(cohort.keys), "labeled": set(cohort.labelled)}
        parts["unlabeled"] = parts["all"] - parts["labeled"]
        if images not in parts:
            raise UsageError(f"images must be one of {', '.join(sorted(parts))}, got {images!r}")
        keys = sorted(parts[images], key=lambda key: (self._original(key).is_file(), key))
        return self.ahead.start(self.name, keys)

    def take_network(self, segmenter: Segmenter) -> None:
        """Predict by another network from the next case on.

        Raises:
            UsageError: It has other regions.
        """
        if segmenter.recipe.labels != self.labels:
            raise UsageError("the new network has other regions; start the server anew with it")
        with self._one:
            self.segmenter = segmenter

    def tell(self, line: str) -> None:
        """Put a line into the log that clients may read: keys and times, no person."""
        self.log.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}")
        logger.info("%s", line)

    def _given_out(self, key: str, label: Volume, ending: str, *, table: LabelTable, image: str = "") -> Path:
        path = self.sessions.folder / f"{uuid.uuid4().hex}{ending}"
        if ending == SEGMENTATION_SUFFIX:
            write_segmentation(path, label, table, image=image)
        elif image_suffix(f"{key}{ending}") == FILE_ENDING:
            write_volume(path, label)
        elif ending == _NRRD:
            write_nrrd(path, label)
        else:
            raise UsageError(f"labels are given out as {FILE_ENDING}, {_NRRD} or {SEGMENTATION_SUFFIX}, got {ending}")
        return path

    def label(self, key: str, tag: str) -> Path:
        """The label of a case in a file: `final` is that of the cohort, `original` the prediction.

        Raises:
            NotFoundError: There is none.
        """
        self._files(key)
        path = self._label_file(self.cohort(), key, tag)
        if not path.is_file():
            raise NotFoundError(f"there is no label {tag or _FINAL} of {key}")
        if tag == _ORIGINAL:
            self._shown.add(key)
        table = self.labels if tag == _ORIGINAL else self.cohort().labels
        ending = SEGMENTATION_SUFFIX if table.overlap else FILE_ENDING
        return self._given_out(key, read_volume(path), ending, table=table)

    def _label_file(self, cohort: Cohort, key: str, tag: str) -> Path:
        if tag == _ORIGINAL:
            return self._original(key)
        return cohort.folder / "labelsTr" / f"{key}{FILE_ENDING}"

    def save_label(self, key: str, file: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Take a label home by `volseg.deploy.corrections.adopt`; the names of a label map are those that came with it.

        Raises:
            NotFoundError: There is no such case.
            VolsegError: The label cannot be taken; the cohort is as it was.
        """
        self._files(key)
        with self._home, tempfile.TemporaryDirectory(prefix="volseg-label-") as made:
            place = Path(made) / "labels" / _FINAL / f"{key}{'.dcm' if is_dicom(file) else suffix_of(file.name)}"
            place.parent.mkdir(parents=True)
            shutil.move(file, place)
            objects = {key: {"labels": {_FINAL: {"info": dict(parameters)}}}}
            (Path(made) / "datastore_v2.json").write_text(json.dumps({"objects": objects}))
            client = client_of(parameters)
            anew = self._shown.to(key, client)  # else it goes on from what it has sent before
            found = adopt(place, self.cohort(), case=key, predictions=self.place, anew=anew)
            self._next.remove(key)
            self._shown.remove(key, client)
        for error in found.failed.values():
            raise LabelError(_in_slicer(error)) if isinstance(error, OpenQuestionError) else error
        one = found.adopted[key]
        self.tell(f"took the label of {key} home, {one.added_path_mm:.0f} mm drawn anew")
        return {"image": key, "label": key, "tag": _FINAL, "notes": list(one.notes), "added_path_mm": one.added_path_mm}

    def add_image(self, key: str, file: Path) -> str:
        """Add an image without label to the cohort.

        Raises:
            UsageError: The case is there already, or the cohort has several channels.
        """
        check_key(key)
        self._check_new(self.cohort(), key)
        volumes = read_image_file(file)
        if len(volumes) != 1:
            raise UsageError(
                f"the image has {len(volumes)} channels, and a case of this cohort has one; send one of them"
            )
        # One door for whatever adds to the cohort, of this server and of other processes: of two clients who send one
        # key at once the second is told, and the image of the first stays.
        with self._home, locked(self.folder / ".volseg" / "adopting"):
            self._check_new(self.cohort(), key)
            write_volume(self._place_of(key), volumes[0])
        self.tell(f"took the image of {key} into the cohort")
        return key

    def _place_of(self, key: str) -> Path:
        return self.folder / "imagesTs" / f"{key}_0000{FILE_ENDING}"

    def _check_new(self, cohort: Cohort, key: str) -> None:
        # The file is asked for too: some file systems take two keys that differ by large letters for one.
        if key in cohort.rows or self._place_of(key).exists():
            raise UsageError(f"the cohort has a case {key} already")
        if cohort.channels != 1:
            raise UsageError(f"a case of this cohort has {cohort.channels} channels; add it with `volseg convert`")


def _in_slicer(error: OpenQuestionError) -> str:
    """What a segmentation leaves open, and what a person does about it in 3D Slicer."""
    told = []
    if error.missing:
        told.append(
            f"there is no segment of {', '.join(error.missing)}; add an empty segment of that name if there is none"
        )
    if error.extra:
        told.append(f"{', '.join(error.extra)} is no region of the cohort; rename or remove it")
    return f"{', and '.join(told)}, then submit again"
