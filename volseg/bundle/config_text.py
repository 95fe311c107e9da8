"""Paths in a bundle's settings: MONAI interprets `#`, `@`, `$` and `%` in a string."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from volseg.errors import BundleError, root_error

_PATHS = ("_dir", "_file", "_path", "_root")


def literal(text: str) -> str:
    r"""A config string that MONAI evaluates to exactly this text.

    MONAI 1.6.1 turns each `#` of a string into `::`, takes `@NAME` for a reference, `$...` for Python and `%...` for a
    macro. A text without these signs comes back as it is.

    Args:
        text: Any text, such as a path.

    >>> print(literal("Study #3/run"))
    $'Study \x233/run'
    >>> literal("data/run")
    'data/run'
    """
    if "#" not in text and "@::" not in text and "%::" not in text and not text.startswith(("$", "@", "%")):
        return text
    quoted = repr(text)
    for sign in "#@%":
        quoted = quoted.replace(sign, f"\\x{ord(sign):02x}")
    return f"${quoted}"


def literal_text(value: object) -> object:
    r"""The inverse of `literal`; any other value as it is.

    >>> literal_text(literal("Study #3")), literal_text("$@data_dir"), literal_text(3)
    ('Study #3', '$@data_dir', 3)
    """
    if isinstance(value, str) and value[:2] in ("$'", '$"'):
        try:
            text = ast.literal_eval(value[1:])
        except (ValueError, SyntaxError):
            return value
        return text if isinstance(text, str) else value
    return value


def is_path_setting(name: str) -> bool:
    """Whether a setting names a file or folder, by the end of its name.

    >>> is_path_setting("output_dir"), is_path_setting("learning_rate")
    (True, False)
    """
    return name.endswith(_PATHS)


def path_values(settings: Mapping[str, Any], *, ids: Sequence[str]) -> dict[str, Any]:
    r"""Write settings so that MONAI takes each path as it was typed.

    Text without a sign of MONAI's at its start is never an expression, so each `#` in it is kept. A path that begins
    with `@`, `$` or `%` is read as MONAI does if it is a reference to a setting, an expression or a macro, and as a
    path if such a folder is there or MONAI could make nothing of it.

    Args:
        settings: Values of the settings by name.
        ids: Settings of the bundle that a reference may name.

    >>> print(path_values({"output_dir": "Study #3/run", "device": "$torch.device('cpu')"}, ids=["data_dir"]))
    {'output_dir': "$'Study \\x233/run'", 'device': "$torch.device('cpu')"}
    >>> path_values({"output_dir": "@data_dir", "dataset_dir": "@home"}, ids=["data_dir"])
    {'output_dir': '@data_dir', 'dataset_dir': "$'\\x40home'"}
    """
    return {name: _given(value, path=is_path_setting(name), ids=ids) for name, value in settings.items()}


def _given(value: object, *, path: bool, ids: Sequence[str]) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, Mapping):
        return {
            key: one if str(key).startswith("_") else _given(one, path=False, ids=ids) for key, one in value.items()
        }
    if isinstance(value, list):
        return [_given(one, path=False, ids=ids) for one in value]
    if not isinstance(value, str):
        return value
    if not value.startswith(("$", "@", "%")) or (path and _is_text(value, ids)):
        return literal(value)
    return value


def _is_text(value: str, ids: Sequence[str]) -> bool:
    """Whether a path that begins with a special character of MONAI's is meant literally."""
    if literal_text(value) != value:
        return False
    if Path(value).exists():
        return True
    if value.startswith("@"):
        return value[1:].replace("::", "#").partition("#")[0] not in ids
    if value.startswith("%"):
        name = value[1:].replace("::", "#").partition("#")[0]
        return name not in ids and not name.endswith((".json", ".yaml", ".yml"))
    try:
        ast.parse(value[1:].replace("@", "_").replace("#", "_"), mode="eval")
    except (SyntaxError, ValueError):
        return True
    return False


def check_words(words: Sequence[str] | None = None) -> None:
    r"""Refuse a path with `#` on the command line of `python -m monai.bundle run`, which MONAI has changed by now.

    Args:
        words: Words of the command line; those of this process by default.

    Raises:
        BundleError: There is such a path; the message tells what to write instead.

    >>> check_words(["run", "training", "--config_file", "train.json", "--output_dir", "Study #3/run"])
    Traceback (most recent call last):
    volseg.errors.BundleError: MONAI reads "#" as "::", so --output_dir 'Study #3/run' would be another folder; write
    --output_dir "$'Study \x233/run'", or use `volseg train`
    """
    words = list(sys.argv if words is None else words)
    if not any(word.partition("=")[0] in ("--config_file", "--config-file") for word in words):
        return
    if not {"run", "run_workflow"} & set(words):
        return
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        value = value if equals else following
        if name.startswith("--") and is_path_setting(name[2:]) and "config" not in name and "#" in value:
            if value.startswith(("$", "@", "%")):
                continue
            if words == sys.argv:
                sys.excepthook = _one_line
            raise BundleError(
                f'MONAI reads "#" as "::", so {name} {value!r} would be another folder; write '
                f'{name} "{literal(value)}", or use `volseg train`'
            )


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a refusal without MONAI's sixty lines of traceback; any other error is printed as Python does."""
    found = root_error(error)
    if isinstance(found, BundleError):
        sys.stderr.write(f"volseg: {found}\n")
    else:
        sys.__excepthook__(kind, error, trace)
