"""How `volseg convert` reads its words: options before the kind, a mistyped kind, an option of another kind."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperGroup

from volseg.cli.mistakes import LIKE, no_option, option_names
from volseg.errors import UsageError


class KindCommand(TyperCommand):
    """The command of one kind, which knows the options of the others."""

    siblings: Mapping[str, Any] = {}

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer has its own click
        """Parse the words after the kind.

        Raises:
            UsageError: An option that this kind does not have.
        """
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            option = getattr(error, "option_name", None)
            if option is None or option in option_names(self):
                raise
            raise UsageError(self._no_option(option)) from None

    def _no_option(self, option: str) -> str:
        """What is told of an option of other kinds, or of none."""
        has = {name: self._kinds_with(name) for command in self.siblings.values() for name in option_names(command)}
        if option in has:
            return (
                f"{option} is an option of {_list(has[option], 'and')}, not of {self.name}; leave it out, or see "
                f"`volseg convert {self.name} --help`"
            )
        own = option_names(self)
        path = f"volseg convert {self.name}"
        elsewhere = get_close_matches(option, has, n=1, cutoff=LIKE)
        if elsewhere and not get_close_matches(option, own, n=1, cutoff=LIKE):
            kinds = _list(has[elsewhere[0]], "and")
            return f"convert {self.name} has no option {option}; {elsewhere[0]} is an option of {kinds}"
        return no_option(path, option, own)

    def _kinds_with(self, option: str) -> list[str]:
        return [name for name, command in self.siblings.items() if option in option_names(command)]


class KindGroup(TyperGroup):
    """The kinds as commands; options may stand before the kind, as they may in every other command."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - what typer hands on
        super().__init__(**options)
        for command in self.commands.values():
            if isinstance(command, KindCommand):
                command.siblings = self.commands

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Parse the words after `convert`."""
        return super().parse_args(ctx, self._kind_first(args))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401
        """Find the kind.

        Raises:
            UsageError: There is no such kind.
        """
        if args[0] not in self.commands:
            raise UsageError(self._no_kind(args[0]))
        return super().resolve_command(ctx, args)

    @property
    def _kinds(self) -> str:
        return _list(list(self.commands), "or")

    def _kind_first(self, words: list[str]) -> list[str]:
        """The words with the kind before the options that were given first; the same if there is no kind."""
        takes_value = {
            name: takes for command in self.commands.values() for name, takes in option_names(command).items()
        }
        index = 0
        while index < len(words):
            word = words[index]
            if word == "--":
                return [*words[index + 1 : index + 2], *words[:index], "--", *words[index + 2 :]]
            if not word.startswith("-"):
                return [word, *words[:index], *words[index + 1 :]]
            name, equals, _ = word.partition("=")
            if name not in takes_value:
                like = get_close_matches(name, takes_value, n=1, cutoff=LIKE)
                raise UsageError(f"no kind has the option {name}" + (f"; did you mean {like[0]}?" if like else ""))
            index += 2 if takes_value[name] and not equals else 1
        if words and not {"--help", "-h"} & set(words):
            raise UsageError(
                f"KIND must be {_list(list(self.commands), 'or')}, got none; name it before RAW and COHORT"
            )
        return words

    def _no_kind(self, word: str) -> str:
        from volseg.cli.convert import KINDS

        names = {other: kind.name for kind in KINDS for other in (kind.name, *kind.also_called)}
        told = f"KIND must be {_list(list(self.commands), 'or')}, got {word}"
        if "/" in word or Path(word).exists():
            return f"{told}, which is a path; name the kind before it: volseg convert KIND RAW COHORT"
        like = get_close_matches(word.casefold().replace("-", "_"), names, n=1, cutoff=LIKE)
        return f"{told}; did you mean {names[like[0]]}?" if like else f"{told}; `volseg convert --help` describes each"


def _list(names: list[str], word: str) -> str:
    return f" {word} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
