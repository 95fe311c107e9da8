"""The page to work through: each case with a picture, what to look at, and the link that opens it in 3D Slicer."""

from __future__ import annotations

import base64
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np

from volseg import __version__
from volseg.cohort import Cohort, read_label_map
from volseg.deploy.corrections.todo import Todo, TodoRow
from volseg.files import atomic
from volseg.pictures import ReviewCase, draw_case
from volseg.volume import RGB, Volume, read_volume

PAGE = "worksheet.html"
_STYLE = """
.todo { width: 100%; border-collapse: collapse; table-layout: fixed }
.todo th:nth-child(1) { width: 4rem } .todo th:nth-child(2) { width: 34% }
.todo td, .todo th { padding: .6rem .7rem; vertical-align: top; text-align: left; white-space: normal;
  border-top: 1px solid #8884 }
.todo img { max-width: 100%; height: auto; display: block }
.todo .lot { opacity: .75 }
.todo .box { width: 1.1rem; height: 1.1rem; border: 1.5px solid currentColor;
  border-radius: 3px; display: inline-block }
@media print { .todo tr { break-inside: avoid } }
"""


def write_worksheet(todo: Todo, cohort: Cohort) -> Path:
    """Write `worksheet.html`, whole or not at all: one page that opens from disk, prints, and loads nothing.

    Args:
        todo: List of the cases.
        cohort: Cohort of the images.

    Returns:
        The path of the page.
    """
    css = (files("volseg.report") / "page").joinpath("report.css").read_text("utf-8") + _STYLE
    total = sum(row.expected_mm or 0.0 for row in todo.rows)
    lot = sum(row.chosen == "random" for row in todo.rows)
    counts = "".join(
        f"<li><b>{number}</b>{name}</li>"
        for number, name in (
            (len(todo.rows), "case to look at" if len(todo.rows) == 1 else "cases to look at"),
            (lot, "of them at random"),
            (f"{total / 1000:,.1f} m", "of contour expected"),
        )
    )
    rows = "".join(_row(row, todo, cohort) for row in todo.rows)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="generator" content="volseg {__version__}">\n<title>Cases to look at</title>\n'
        f'<style>\n{css}</style>\n</head>\n<body>\n<header class="top"><div class="inner"><h1>Cases to look at</h1>'
        "<p>Open a scene in 3D Slicer, correct the segmentation in the Segment Editor, and save it under its own name. "
        "Then run <code>volseg adopt</code> on this folder. Minutes may be put into todo.csv.</p>"
        f'<ul class="facts">{counts}</ul></div></header>\n<main><table class="todo"><thead><tr><th>Done</th><th>Case'
        f"</th><th>Image; label that is there; prediction</th></tr></thead><tbody>{rows}</tbody></table></main>\n"
        "</body>\n</html>\n"
    )
    path = todo.folder / PAGE
    with atomic(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def _label(key: str, image: Volume, cohort: Cohort) -> Volume:
    """The label that is there, on the image's grid; without any region where there is none, or nobody looked."""
    path = cohort.label_path(key)
    if path is None:
        return Volume(np.zeros(image.shape, np.uint8), image.affine_ras)
    label = read_label_map("reference", path, image, cohort.labels)
    ignored = cohort.labels.ignored(label.voxels)
    return label if ignored is None else Volume(np.where(ignored, np.uint8(0), label.voxels), label.affine_ras)


def _row(row: TodoRow, todo: Todo, cohort: Cohort) -> str:
    channels = [read_volume(path) for path in cohort.image_paths(row.key)[: 3 if cohort.channel_names == RGB else 1]]
    image, label = channels[0], _label(row.key, channels[0], cohort)
    prediction = read_volume(todo.prediction(row.key))
    colours = np.stack([channel.voxels for channel in channels]) if cohort.channel_names == RGB else None
    drawn = draw_case(
        ReviewCase(row.key, image, cohort.channel_names[0], label, prediction, cohort.labels, colours=colours)
    )
    source = f"data:image/webp;base64,{base64.b64encode(drawn.webp).decode()}"
    scene = f"{row.key}/{row.key}.mrml"
    expected = "" if row.expected_mm is None else f"<br>{row.expected_mm:.0f} mm expected in all"
    width, height = drawn.size
    return (
        f'<tr class="{"lot" if row.chosen == "random" else "order"}"><td><span class="box"></span></td>'
        f'<td><b>{row.rank}. <a href="{escape(scene, quote=True)}">{escape(row.key)}</a></b><br>'
        f"{escape(row.reason)}{expected}</td><td>"
        f'<img src="{source}" width="{width}" height="{height}" alt="Slice {drawn.slice} of {drawn.slices} of '
        f'{escape(row.key, quote=True)}"></td></tr>\n'
    )
