"""What the parser of the command line refuses, told in one line: what is wrong, and what to type."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import typer

# What typer raises for words that it cannot read. Its base class has other names in other versions.
WrongUse: type[Exception] = typer.BadParameter.__bases__[0]

LIKE = 0.6  # share of letters that a suggestion has in common with what was typed
_EXPECTED = re.compile(r"Input should be (?:a valid )?(.+?)(?:, unable to .*)?")
_CHOICE = re.compile(r"(?:Value error, )?'.*' is not one of (.+?)\.?")
_PLAIN = {"greater than or equal to": "at least", "less than or equal to": "at most", "integer": "a whole number"}


def explain(error: Any, words: Sequence[str]) -> str:  # noqa: ANN401 - typer brings its own click in some versions
    """The line for an error of the parser; empty if it has printed the help instead.

    Args:
        error: Error of the type `WrongUse`.
        words: Words of the command line after `volseg`.
    """
    kind = type(error).__name__
    context = error.ctx
    path = context.command_path if context else f"volseg {words[0]}"
    if kind == "NoArgsIsHelpError":
        return ""
    if kind == "NoSuchOption":
        return no_option(path, error.option_name, option_names(context.command) if context else ())
    if kind == "MissingParameter":
        return f"{_name(error.param)} is missing; {_usage(context)}"
    if kind == "BadParameter" and error.param is not None:
        return _bad_value(error, words, path)
    if kind == "BadOptionUsage":
        told = (
            "needs a value; type it after the option" if "requires" in error.message else "takes no value; leave it out"
        )
        return f"{error.option_name} {told}"
    if command := re.match(r"No such command '(.*?)'", error.message):
        return _not_there(path, f"command {command[1]}", command[1], context.command.commands)
    if extra := re.match(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", error.message):
        return f"{_told_extra(extra[1])} is more than was expected; {_usage(context)}; {_cure_of_extra(extra[1])}"
    if error.message.startswith("Missing command"):
        return f"a command is missing; `{path} --help` lists them"
    return " ".join(error.format_message().split())


def _told_extra(extra: str) -> str:
    """The words that are too many; of many files that are there the first."""
    first, *others = extra.split()
    return f"{first}, with {len(others)} others," if len(others) > 1 and _are_there(extra) else extra


def _cure_of_extra(extra: str) -> str:
    """What to type where words were too many: mostly the shell has put files in the place of a pattern."""
    return "name one file, or the folder" if _are_there(extra) else "quote patterns and names with spaces"


def _are_there(extra: str) -> bool:
    return all(Path(word).exists() for word in extra.split())


def no_option(path: str, option: str, names: Iterable[str]) -> str:
    """The line for an option that a command does not have.

    >>> no_option("volseg split", "--fold", ["--folds", "--seed"])
    'split has no option --fold; did you mean --folds?'
    """
    return _not_there(path, f"option {option}", option, names)


def option_names(command: Any) -> dict[str, bool]:  # noqa: ANN401
    """The names of a command's options, and whether each takes a value."""

    def named() -> Iterator[tuple[str, bool]]:
        for parameter in command.params:
            if parameter.param_type_name == "option":
                flag = bool(getattr(parameter, "is_flag", False) or getattr(parameter, "count", False))
                yield from ((name, not flag) for name in (*parameter.opts, *parameter.secondary_opts))

    return dict(named()) | dict.fromkeys(("--help", "-h"), False)


def _not_there(path: str, what: str, word: str, names: Iterable[str]) -> str:
    like = get_close_matches(word, list(names), n=1, cutoff=LIKE)
    cure = f"did you mean {like[0]}?" if like else f"`{path} --help` lists them"
    return f"{path.removeprefix('volseg ')} has no {what}; {cure}"


def _bad_value(error: Any, words: Sequence[str], path: str) -> str:  # noqa: ANN401
    message = error.message.strip()
    if expected := _EXPECTED.fullmatch(message):
        must = expected[1]
        for long, short in _PLAIN.items():
            must = must.replace(long, short)
        must = f"a {must}" if must in ("number", "boolean") else must
    elif choice := _CHOICE.fullmatch(message):
        must = " or ".join(choice[1].replace("'", "").rsplit(", ", 1))
    else:
        return f"{_name(error.param)}: {message.rstrip('.')}; see `{path} --help`"
    return f"{_name(error.param)} must be {must}, got {_given(error.param, words)}; see `{path} --help`"


def _given(parameter: Any, words: Sequence[str]) -> str:  # noqa: ANN401
    """What the user typed for an option."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name in parameter.opts:
            return value if equals else following
    return "another value"


def _name(parameter: Any) -> str:  # noqa: ANN401
    """What the help calls a parameter."""
    if parameter.param_type_name == "option":
        return str(parameter.opts[-1])
    return str(parameter.metavar or parameter.name.upper())


def _usage(context: Any) -> str:  # noqa: ANN401
    """The example of the help, else the arguments."""
    example = (context.command.epilog or "").replace("\\[", "[").removeprefix("Example: ")
    if example:
        return f"for example: {example}"
    arguments = [_name(one) for one in context.command.params if one.param_type_name == "argument"]
    return " ".join(["usage:", context.command_path, *arguments, "[OPTIONS]"])
