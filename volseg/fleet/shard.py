"""A shard: a fixed share of a cohort's cases, for runs that know nothing of each other, such as a SLURM job array."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from volseg.errors import UsageError


@dataclass(frozen=True)
class Shard:
    """The cases whose key's hash leaves `number` when divided by `count`: the same ones on every machine, for ever.

    >>> shards = [Shard.parse(f"{number}/3") for number in range(3)]
    >>> [[key for key in "abcdef" if key in shard] for shard in shards]
    [[], ['a', 'c', 'd', 'e'], ['b', 'f']]
    """

    number: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `I/N` with I from 0 to N - 1.

        Raises:
            UsageError: it is something else.
        """
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if not found or int(found[1]) >= int(found[2]):
            raise UsageError(f"--shard {text} was given, expected I/N with I from 0 to N - 1, such as 0/8")
        return cls(int(found[1]), int(found[2]))

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        return int.from_bytes(hashlib.sha256(key.encode()).digest(), "big") % self.count == self.number

    @property
    def suffix(self) -> str:
        """What the names of its files end in; nothing where it is the whole."""
        return f"-{self.number}-of-{self.count}" if self.count > 1 else ""
