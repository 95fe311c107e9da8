"""The last step: out-of-fold scores of all candidates, the choice, its clean-up, the tables, the page, the ensemble."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from volseg.cohort import Cohort, read_uncertainty, write_labels, write_uncertainty
from volseg.crossval.choice import Choice, choose, p_text
from volseg.crossval.cleanup import RegionCleanup, choose_cleanup, dice_of_largest, write_cleaned
from volseg.crossval.ensemble import write_ensemble
from volseg.crossval.fold import predict_fold
from volseg.crossval.folder import CHOSEN, COMPARISON, CrossvalFolder
from volseg.crossval.scores import Candidate, gather, held_out, score, write_table
from volseg.crossval.settings import CrossvalSettings
from volseg.crossval.summary import details_of, summary_as_json, write_summary
from volseg.errors import UsageError
from volseg.evaluation import Comparison, EvaluationSettings, RegionScores, compare
from volseg.jobs import WorkerOptions
from volseg.labels import Cleanup
from volseg.metrics import Interval
from volseg.report import remove_html, write_comparison, write_html, write_report

Progress = Callable[[int, int], None]
Bars = Callable[[str], AbstractContextManager[Progress]]
"""Opens a progress bar of that name."""


@dataclass(frozen=True)
class CrossvalResult:
    """What a cross-validation found.

    Attributes:
        choice: The chosen candidate and how all stand.
        cleanup: What was decided about each region.
        rows: Out-of-fold scores of the chosen candidate after its clean-up.
        candidates: Out-of-fold scores by candidate, before any clean-up.
        comparison: Paired comparison of the candidates; None if there is but one.
        ensemble: Ensemble folder.
        files: Files that were written for readers.
        notes: Lines for the reader.
    """

    choice: Choice
    cleanup: tuple[RegionCleanup, ...]
    rows: Sequence[RegionScores]
    candidates: Mapping[str, Sequence[RegionScores]]
    comparison: Comparison | None
    ensemble: Path
    files: Sequence[Path]
    notes: Sequence[str] = field(default_factory=tuple)


def conclude(
    folder: CrossvalFolder,
    settings: CrossvalSettings,
    cohort: Cohort,
    *,
    networks: Sequence[str],
    ensembles: bool = True,
    workers: int = 1,
    title: str = "Cross-validation",
    html: bool = True,
    notes: Sequence[str] = (),
    bars: Bars | None = None,
) -> CrossvalResult:
    """Score what the folds have predicted, choose, and write everything that the folder tells.

    Args:
        folder: Folder of the cross-validation.
        settings: Settings of the cross-validation.
        cohort: Cohort of the references.
        networks: Names of the networks of which every fold is finished.
        ensembles: Whether the two best networks together, and all together, are candidates too; their folds are
            predicted here.
        workers: Number of workers of the predictions and the scores.
        title: Title of the report.
        html: Whether the page is written.
        notes: Lines for the reader that are known already.
        bars: Opens a progress bar.

    Raises:
        UsageError: No network is finished, or no case can be scored.
    """
    if not networks:
        raise UsageError(f"no network of {folder.path} has all its folds; run the same command again")
    opened: Bars = bars or (lambda _: nullcontext(lambda _done, _all: None))
    folds = held_out(cohort, settings.folds)
    objects = cohort.has_instances
    method = EvaluationSettings(objects=objects, instances=objects)

    def rows_of(name: str, predictions: Path) -> list[RegionScores]:
        with opened(f"score {name}") as progress:
            return score(
                predictions, cohort, folder.report(name), list(folds), method=method, workers=workers, progress=progress
            )

    candidates = [Candidate((name,)) for name in networks]
    rows = {one.name: rows_of(one.name, gather(folder, one.name, folds)) for one in candidates}
    if ensembles and len(candidates) > 1:
        for one in _ensembles(choose(candidates, rows), candidates):
            with opened(f"predict {one.name}") as progress:
                _predict_ensemble(folder, settings, one, workers=workers, progress=progress)
            rows[one.name] = rows_of(one.name, folder.oof(one.name))
            candidates.append(one)
    choice = choose(candidates, rows)
    chosen = choice.chosen
    with opened("largest parts") as progress:
        pairs = dice_of_largest(folder.oof(chosen.name), cohort, list(folds), progress=progress)
    patients = {key: cohort.patient(key) for key in folds}
    decided = choose_cleanup(pairs, cohort.labels.names, patients=patients, folds=folds)
    cleanup = Cleanup(keep_largest=[one.region for one in decided if one.chosen])
    final, predictions = list(rows[chosen.name]), folder.oof(chosen.name)
    told = {name: list(of_one) for name, of_one in rows.items()}
    if cleanup:
        predictions = folder.oof(CHOSEN)
        write_cleaned(folder.oof(chosen.name), predictions, cleanup, cohort, list(folds))
        made_with = {"cleanup": cleanup.to_json()}
        write_labels(predictions, cohort.labels, channel_names=cohort.channel_names, made_with=made_with)
        write_uncertainty(predictions, read_uncertainty(folder.oof(chosen.name)), forget=read_uncertainty(predictions))
        final = rows_of(CHOSEN, predictions)
        told[CHOSEN] = final
    elif (stale := folder.oof(CHOSEN)).is_dir():
        shutil.rmtree(stale)  # of an earlier call that chose a clean-up
    uncertainty = {name: read_uncertainty(folder.oof(name)) for name in told}
    write_table(folder.table, told, folds=folds, uncertainty=uncertainty)
    for name, of_one in told.items():
        details = {"cohort": str(cohort.folder), "predictions": f"out of fold, {name}"}
        write_report(of_one, folder.report(name), title=f"{title}: {name}", details=details, method=method)
    comparison = compare(rows) if len(rows) > 1 else None
    files: list[Path] = []
    if comparison is not None:
        details = {"cohort": str(cohort.folder), "predictions": "out of fold"}
        files += write_comparison(comparison, folder.path / COMPARISON, title=f"{title}: comparison", details=details)
    elif (stale := folder.path / COMPARISON).is_dir():
        shutil.rmtree(stale)  # of an earlier call with more networks
    content = summary_as_json(
        folder, settings, cohort, choice=choice, cleanup=decided, rows=rows, final=final, notes=notes, title=title
    )
    facts = {"out_of_fold": content["result"], "choice": content["choice"]}
    ensemble = write_ensemble(folder, settings, chosen, cohort, cleanup=cleanup, facts=facts)
    files.append(write_summary(folder.summary, content))
    if not html:
        remove_html(folder.path)
    else:
        with opened("draw") as progress:
            files.append(
                write_html(
                    final,
                    folder.path,
                    cohort=cohort,
                    predictions=predictions,
                    title=title,
                    details={**details_of(content), **method.details},
                    progress=progress,
                )
            )
    return CrossvalResult(choice, decided, final, rows, comparison, ensemble, files, tuple(notes))


def _ensembles(choice: Choice, singles: Sequence[Candidate]) -> list[Candidate]:
    """The two best networks together, and all together; members in the order of their Dice."""
    order = [one.candidate.networks[0] for one in choice.standings]
    found = [Candidate(tuple(order[:2]))]
    return found if len(singles) == 2 else [*found, Candidate(tuple(order))]


def _predict_ensemble(
    folder: CrossvalFolder, settings: CrossvalSettings, one: Candidate, *, workers: int, progress: Progress
) -> None:
    """Predict every fold by the networks of that fold, none of which has seen its cases."""
    for done, fold in enumerate(settings.folds):
        progress(done, len(settings.folds))
        members = [(str(settings.networks[name]), folder.network(name, fold)) for name in one.networks]
        predict_fold(
            settings,
            members,
            fold,
            folder.oof(one.name),
            device=settings.device(0),
            worker_options=WorkerOptions(workers),
            name=f"predict-fold-{fold}",
        )
    progress(len(settings.folds), len(settings.folds))


def short_result(result: CrossvalResult) -> str:
    """The standings of the candidates as aligned text, for a terminal."""
    lines = [("candidate", "Dice mean [95 % CI]", "difference from the best network", "p")]
    for one in result.choice.standings:
        dice, gap = one.dice, one.difference
        p = one.p_holm if one.p_holm is not None else one.p
        lines.append(
            (
                one.candidate.name + (" *" if one.candidate == result.choice.chosen else ""),
                _with_interval(dice, ".3f"),
                "" if gap is None else _with_interval(gap, "+.4f"),
                "" if gap is None else p_text(p),
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    cases = len({row.key for row in result.rows if row.error is None})
    return "\n".join([*text, f"* chosen; {cases} cases out of fold"])


def _with_interval(found: Interval, form: str) -> str:
    """A mean with its interval, which one patient alone does not give."""
    ends = "–" if math.isnan(found.low) else f"{found.low:{form}}, {found.high:{form}}"
    return f"{found.mean:{form}} [{ends}]"
