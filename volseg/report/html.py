"""The HTML report: one page that opens from disk without a network, with tables, figures, pictures and a 3D viewer."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from volseg import __version__
from volseg.cohort import Cohort
from volseg.errors import VolsegError, telling_memory
from volseg.evaluation import RegionScores
from volseg.files import atomic
from volseg.labels import LabelMatch
from volseg.pictures import CasePicture, draw_case, read_review_case, viewer_data
from volseg.report import html_cases, html_tables
from volseg.report.figures import spoken
from volseg.report.promises import promise_section
from volseg.report.summary import Summary, summarise

PAGE = "report.html"
BESIDE = "report_data"
LIMIT_BYTES = 25_000_000
_TABLE_SHARE = 0.25  # fraction of the limit; further rows of the case table are in cases.csv alone
_PICTURES_SHARE = 0.5  # fraction of what tables and figures leave; further pictures are files beside the page
_OWN = ("case-*.webp", "volumes-*.js")


def write_html(
    rows: Sequence[RegionScores],
    folder: Path,
    *,
    cohort: Cohort,
    predictions: Path,
    title: str,
    details: Mapping[str, str],
    viewers: int = 3,
    limit_bytes: int = LIMIT_BYTES,
    match: LabelMatch | None = None,
    progress: Callable[[int, int], None] | None = None,
    summary: Summary | None = None,
) -> Path:
    """Write `report.html`, whole or not at all; only the volumes of one case are in memory at a time.

    The table of cases has the worst rows, up to a quarter of `limit_bytes`. Pictures beyond half of what tables and
    figures leave, and volumes of the viewers beyond all of it, are written to files of the folder `report_data` beside
    the page.

    Args:
        rows: Rows of one evaluation.
        folder: Folder, which is created if absent; an existing report is replaced.
        cohort: Cohort of the images and references.
        predictions: Folder of the label maps `KEY.nii.gz`.
        title: Heading of the page.
        details: Facts for the reader by name, in order: cohort, model, checkpoint, version, ...
        viewers: Number of the worst cases that can be opened in 3D.
        limit_bytes: Size in bytes that the page should not exceed.
        match: Match of the predictions' regions with the cohort's; None matches by name.
        progress: Function that is called after each case with the number of drawn cases and of all.
        summary: Summary of these rows, if it has been made; by default it is made here.

    Returns:
        The path of the page.

    Raises:
        UsageError: A case occurs twice.
    """
    folder = Path(folder)
    summary = summarise(rows) if summary is None else summary
    scored = sorted((row for row in rows if row.error is None), key=_badness)
    by_case: dict[str, list[RegionScores]] = {}
    for row in rows:
        if row.error is None:
            by_case.setdefault(row.key, []).append(row)
    keys = list(dict.fromkeys(row.key for row in scored))  # the case of the worst row first
    links = {key: f"case-{number}" for number, key in enumerate(keys, start=1)}
    parts = {
        "failed": html_tables.failure_table(summary.failures),
        "result": html_tables.result_table(summary, cohort.labels) if scored else "<p>No case could be scored.</p>",
        "figures": html_cases.figures(scored, cohort, links),
        "curves": html_cases.curves(scored, cohort),
        "promises": promise_section(scored, cohort, links),
        "table": _table(scored, cohort, links, limit_bytes=limit_bytes * _TABLE_SHARE),
        "definitions": html_tables.definition_list(scored),
    }
    beside = _Beside(folder / BESIDE)
    pictures = _Pictures(beside, (limit_bytes - sum(map(len, parts.values()))) * _PICTURES_SHARE)
    sections: list[str] = []
    volumes: dict[int, str] = {}
    for number, key in enumerate(keys, start=1):
        picture, source, problem = None, "", ""
        try:
            with telling_memory():
                review_case = read_review_case(key, predictions, cohort, match=match)
                picture = draw_case(review_case)
                source = pictures.place(picture, number)
                if number <= viewers and 1 not in review_case.image.shape:  # a single slice has nothing to rotate
                    volumes[number] = viewer_data(review_case)
                del review_case
        except VolsegError as error:
            problem = error.message
        sections.append(
            html_cases.case_section(
                by_case[key],
                cohort,
                identity=links[key],
                picture=picture,
                source=source,
                problem=problem,
                viewer=_mount(key, number) if number in volumes else "",
                opened=number <= max(viewers, 1),
            )
        )
        if progress is not None:
            progress(number, len(keys))
    parts["cases"] = _cases(sections)
    facts = {"cases": summary.cases, "patients": summary.patients, "failed": len(summary.failures)}
    page = _page(title, details, facts, parts, volumes, limit_bytes=limit_bytes, beside=beside)
    path = folder / PAGE
    with atomic(path) as partial:
        partial.write_text(page, encoding="utf-8")
    beside.tidy()
    return path


def remove_html(folder: Path) -> None:
    """Remove the `report.html` of an earlier evaluation with its files, which would be taken for that of a new one.

    Args:
        folder: Folder of the report.
    """
    (Path(folder) / PAGE).unlink(missing_ok=True)
    _Beside(Path(folder) / BESIDE).tidy()


class _Beside:
    """The folder beside the page: it is created for its first file; old files of a former report are removed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: set[Path] = set()

    def write(self, name: str, content: bytes) -> str:
        path = self._folder / name
        with atomic(path) as partial:
            partial.write_bytes(content)
        self._written.add(path)
        return f"{BESIDE}/{name}"

    def tidy(self) -> None:
        for pattern in _OWN:
            for path in self._folder.glob(pattern):
                if path not in self._written:
                    path.unlink()
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()


class _Pictures:
    """The pictures: they go into the page until their share of it is used up, then beside it."""

    def __init__(self, beside: _Beside, budget: float) -> None:
        self._beside = beside
        self._left = budget

    def place(self, picture: CasePicture, number: int) -> str:
        embedded = f"data:image/webp;base64,{base64.b64encode(picture.webp).decode()}"
        if len(embedded) <= self._left:
            self._left -= len(embedded)
            return embedded
        self._left = 0
        return self._beside.write(f"case-{number}.webp", picture.webp)


def _page(
    title: str,
    details: Mapping[str, str],
    facts: Mapping[str, int],
    parts: Mapping[str, str],
    volumes: Mapping[int, str],
    *,
    limit_bytes: int,
    beside: _Beside,
) -> str:
    assets, viewer = files("volseg.report") / "page", files("volseg.pictures") / "page"
    css, script = (
        "".join(
            folder.joinpath(f"{name}.{kind}").read_text("utf-8")
            for folder, name in ((viewer, "viewer"), (assets, "report"))
        )
        for kind in ("css", "js")
    )
    library = viewer.joinpath("niivue.umd.js").read_bytes() if volumes else b""
    values = {
        **parts,
        "title": escape(title),
        "version": escape(__version__),
        "policy": escape(_policy(script.encode(), library)),
        "css": css,
        "script": script,
        "facts": _facts(facts),
        "details": "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in details.items()),
        "nav": _nav(parts),
        "credit": _credit(viewer.joinpath("niivue.LICENSE.txt").read_text("utf-8")) if volumes else "",
        "data": "",
    }
    if volumes:
        packed = base64.b64encode(gzip.compress(library, 9, mtime=0)).decode()
        values["data"] = f'<script type="text/plain" id="niivue">{packed}</script>\n'
    template = Template(assets.joinpath("report.html").read_text("utf-8"))
    size = len(template.substitute(values).encode()) + sum(len(data) + 64 for data in volumes.values())
    for number, data in volumes.items():
        if size <= limit_bytes:
            values["data"] += f'<script type="application/json" id="volumes-{number}">{data}</script>\n'
        else:
            beside.write(f"volumes-{number}.js", f'window.volsegVolumes["{number}"] = {data};\n'.encode())
    return template.substitute(values)


def _policy(*scripts: bytes) -> str:
    """The content a browser may load: these scripts by their digest, data in the page, files beside it; no network."""
    digests = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s).digest()).decode()}'" for s in scripts if s)
    return (
        f"default-src 'none'; script-src {digests} file:; style-src 'unsafe-inline'; img-src data: blob: file:; "
        "font-src data:; connect-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _facts(facts: Mapping[str, int]) -> str:
    entries = []
    for name, count in facts.items():
        noun = name.removesuffix("s") if count == 1 and name != "failed" else name
        bad = ' class="bad"' if name == "failed" and count else ""
        entries.append(f"<li{bad}><b>{count}</b>{noun}</li>")
    return "".join(entries)


def _nav(parts: Mapping[str, str]) -> str:
    entries = [
        ("failed", "failed", "Failed"),
        ("result", "result", "Result"),
        ("figures", "spread", "Spread"),
        ("curves", "sessions", "Sessions"),
        ("promises", "promises", "Promises"),
        ("table", "table", "Table"),
        ("cases", "cases", "Cases"),
        ("definitions", "definitions", "Definitions"),
    ]
    return "".join(f'<a href="#{target}">{text}</a>' for part, target, text in entries if parts[part])


def _table(scored: Sequence[RegionScores], cohort: Cohort, links: Mapping[str, str], *, limit_bytes: float) -> str:
    if not scored:
        return ""
    names = [name for name in cohort.labels.names if any(row.region == name for row in scored)]
    options = "".join(f'<option value="{escape(name)}">{escape(spoken(name))}</option>' for name in names)
    table, count = html_tables.case_table(scored, cohort, links, limit_bytes=limit_bytes)
    left = f'<p class="note">The {count:,} worst of {len(scored):,} rows; cases.csv holds all.</p>'
    more = '<label><input type="checkbox" id="all-columns"> all metrics</label>' if "num more" in table else ""
    return (
        '<section id="table"><h2>Cases and regions, worst first</h2><div class="tools ghost">'
        '<label>Find <input type="search" id="find"></label>'
        f'<label>Region <select id="region"><option value="">all</option>{options}</select></label>{more}'
        f'<span id="shown" role="status"></span></div>{left if count < len(scored) else ""}{table}</section>'
    )


def _cases(sections: Sequence[str]) -> str:
    if not sections:
        return ""
    return (
        '<section id="cases"><h2>Pictures, worst case first</h2><p class="note">The number beside a region is its '
        f"Dice.</p>{''.join(sections)}</section>"
    )


def _mount(key: str, number: int) -> str:
    return (
        f'<div class="viewer" data-key="{escape(key)}" data-volumes="{number}" '
        f'data-file="{BESIDE}/volumes-{number}.js"></div>'
    )


def _credit(licence: str) -> str:
    return (
        f"<details><summary>The 3D viewer is NiiVue (BSD 2-Clause); its licence</summary>"
        f"<pre>{escape(licence)}</pre></details>"
    )


def _badness(row: RegionScores) -> tuple[bool, float, float, str, str]:
    """The key of the order: the lowest Dice first, of equal ones the larger volume error; both empty comes last."""
    return row.dice is None, row.dice or 0.0, -abs(row.volume_error_ml or 0.0), row.key, row.region
