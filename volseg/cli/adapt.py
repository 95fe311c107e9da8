"""`volseg adapt RUN COHORT --patient P`."""

from __future__ import annotations

from pathlib import Path

import typer

from volseg.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg adapt data/runs/unet data/cohort --patient case401 --minutes 3")(adapt)


def adapt(
    run: Path = typer.Argument(help="Folder of a training, with model.pt; it is not changed but for RUN/adapted."),
    cohort: Path = typer.Argument(help="Cohort with the patient's earlier days and their contours."),
    patient: str = typer.Option(..., help="Patient, as cases.csv names him."),
    before: str | None = typer.Option(None, help="Learn from sessions before this one alone; from all by default."),
    minutes: float = typer.Option(3.0, help="Minutes of training, after reading and resampling."),
    steps: int | None = typer.Option(None, min=1, help="Number of steps, in place of minutes."),
    layers: str = typer.Option("all", help="Layers that learn: all, decoder, norms or norms+head."),
    base_share: float = typer.Option(
        0.5, help="Share of the windows that come from other patients, against forgetting; 0 for none."
    ),
    bundle: str | None = typer.Option(None, help="Bundle of the run, if its train.json does not say."),
    device: str | None = typer.Option(None, help="cpu, cuda, cuda:1, ...; the best by default."),
    seed: int = typer.Option(0, min=0, help="Seed of the windows."),
) -> None:
    """Adapt a trained network to a patient from his earlier days; run again to go on after a stop.

    RUN/adapted/PATIENT/after_SESSION.pt records the sessions that it has seen. volseg predict --adapted picks it for
    later days of that patient, and volseg evaluate refuses to score days that it has seen or that lie before them.
    """
    if not run.exists():
        raise UsageError(f"there is no {run}; name the folder of a training, which holds model.pt")
    if not (run / "model.pt").is_file():
        raise UsageError(f"{run} must be the folder of a training, which holds model.pt, got one without; name that")
    from volseg.bundle import read_recipe
    from volseg.cohort import Cohort, check_prior_alignment

    recipe = read_recipe(run / "model.pt")  # before PyTorch is loaded
    if recipe.takes_prior:
        check_prior_alignment(
            recipe.prior_alignment,
            asked=f"{run}, a network of prior_alignment",
            otherwise="adapt a run with rigid priors or without any",
        )
    from volseg.training import Adapting
    from volseg.training import adapt as adapted

    work = Adapting(
        run,
        Cohort.open(cohort),
        patient,
        bundle=bundle,
        before=before,
        minutes=minutes,
        steps=steps,
        layers=layers,
        base_share=base_share,
        device=device,
        seed=seed,
    )
    told = work.adaptation
    typer.echo(
        f"{patient}: learns from {', '.join(name or key for name, key in zip(told.sessions, told.keys, strict=False))}"
    )
    target = adapted(work, told=typer.echo)
    words = f"{bundle or 'BUNDLE'} {cohort} --checkpoint {run / 'model.pt'} --adapted {run} -o OUT"
    typer.echo(f"wrote {target}; next: volseg predict {words}")
