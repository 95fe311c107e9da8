"""Examples in docstrings (`>>> ...`) become blocks of code on the site; to Markdown they would be quotations."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

# A paragraph that begins with a prompt, up to the next empty line.
_EXAMPLE = re.compile(r"(?m)^>>> (?:.+\n?)+")


class Examples(Extension):
    """Fence the examples of every docstring."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - griffe's own
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring:
            fenced = _EXAMPLE.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", obj.docstring.value)
            obj.docstring.value = fenced
