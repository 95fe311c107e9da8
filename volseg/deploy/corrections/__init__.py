"""Corrections of people: which cases to look at first, and how their edits come home into the cohort."""

from __future__ import annotations

from volseg.deploy.corrections.adopt import Adopted, Adoption, adopt, adopt_file, undo
from volseg.deploy.corrections.answers import Answers, OpenQuestionError
from volseg.deploy.corrections.edited_label import Naming
from volseg.deploy.corrections.edits import Edit, find_edits
from volseg.deploy.corrections.review import review
from volseg.deploy.corrections.todo import Todo, TodoRow, file_digest, image_digest, read_todo, write_todo

__all__ = [
    "Adopted",
    "Adoption",
    "Answers",
    "Edit",
    "Naming",
    "OpenQuestionError",
    "Todo",
    "TodoRow",
    "adopt",
    "adopt_file",
    "file_digest",
    "find_edits",
    "image_digest",
    "read_todo",
    "review",
    "undo",
    "write_todo",
]
