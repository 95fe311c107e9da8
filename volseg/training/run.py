"""Training of a bundle after the preflight: the work of `volseg train`."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from volseg import bundle as bundles
from volseg.errors import CheckpointError, VolsegError, root_error
from volseg.plan import is_plan
from volseg.training.checks import check_overrides, preflight
from volseg.training.plan_lines import tell_plan
from volseg.training.process_group import rank
from volseg.training.run_lock import lock_run

logger = logging.getLogger(__name__)


def train(
    bundle: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    more: Sequence[str | Path] = (),
    dry: bool = False,
) -> Path:
    """Check a bundle, then run its id `training`, as `python -m monai.bundle run training` does.

    Args:
        bundle: Name or folder of the bundle.
        overrides: Values by id of train.json.
        more: Further config files, whose entries replace those of train.json; a plan.json is taken as `plan_file`.
        dry: Whether to check only.

    Returns:
        The checkpoint of the best validation.

    Raises:
        VolsegError: The preflight found an error, the training failed, or another writes `output_dir`; the message is
            that of the original error.
        OSError: The disk is full or not writable.
    """
    from monai.bundle import ConfigWorkflow

    folder = bundles.find(bundle)
    plans = [path for path in more if is_plan(path)]
    files = [str(bundles.config(folder, "train.json")), *(str(path) for path in more if path not in plans)]
    settings: dict[str, Any] = {"bundle_root": str(folder), **dict(overrides or {})}
    if plans:
        settings.setdefault("plan_file", str(plans[-1]))
    logging_file = folder / "logging.conf"
    with _without_notices("monai.bundle.workflows"):  # it writes the path of logging.conf to the standard output
        workflow = ConfigWorkflow(
            config_file=files,
            meta_file=str(bundles.config(folder, "metadata.json")),
            logging_file=str(logging_file) if logging_file.is_file() else False,
            run_id="training",
        )
    check_overrides(workflow.parser.get(), settings)
    stated = {name: value for name, value in workflow.parser.get().items() if bundles.is_path_setting(name)}
    workflow.parser.update(pairs=bundles.path_values({**stated, **settings}, ids=list(workflow.parser.get())))
    if "settings" in workflow.parser.get():
        workflow.parser["settings#parser"] = workflow.parser
    # The checks work on a copy: what they build must not reach the run, which starts from its seed.
    checked = _copy(workflow.parser)
    preflight(checked, dry=dry)
    if "planned" in checked.get():
        tell_plan(checked.get_parsed_content, settings, dry=dry)
    output_dir = Path(_copy(workflow.parser).get_parsed_content("output_dir"))
    checkpoint = output_dir / "model.pt"
    if dry:
        return checkpoint
    lock = lock_run(output_dir) if rank() == 0 else None
    try:
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise _disk_error(error, output_dir) or root_error(error) from error
    finally:
        if lock is not None:
            lock.release()
    if not checkpoint.is_file():
        raise CheckpointError(f"training ended without a checkpoint in {output_dir}; was any validation run?")
    return checkpoint


@contextmanager
def _without_notices(name: str) -> Iterator[None]:
    """Have a logger tell warnings and errors alone."""
    other = logging.getLogger(name)
    level = other.level
    other.setLevel(logging.WARNING)
    try:
        yield
    finally:
        other.setLevel(level)


def _disk_error(error: BaseException | None, output_dir: Path) -> OSError | None:
    """The error of a disk that cannot be written, if that is the error that MONAI has wrapped."""
    while error is not None and not isinstance(error, VolsegError):
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            cure = "make room and train again with --resume"
            return OSError(error.errno, f"{error.strerror} ({cure})", error.filename or str(output_dir))
        error = error.__cause__ or error.__context__
    return None


def _copy(parser: Any) -> Any:  # noqa: ANN401 - MONAI's ConfigParser
    from monai.bundle import ConfigParser

    return ConfigParser(config=parser.get())
