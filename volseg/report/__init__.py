"""Reports: rows of metrics become tables that state their definitions, their coverage and their failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg import opened_at_first_use

if TYPE_CHECKING:
    from volseg.report.comparison import short_comparison, write_comparison
    from volseg.report.days_page import write_days_page
    from volseg.report.html import remove_html, write_html
    from volseg.report.plan import plan_as_lines, plan_as_text
    from volseg.report.plan_page import write_plan_page
    from volseg.report.process import this_process
    from volseg.report.promises import short_promises
    from volseg.report.quality import short_list, write_quality
    from volseg.report.rounds import RoundCurve, RoundPoint, round_point, write_rounds
    from volseg.report.run_summary import run_as_markdown
    from volseg.report.runs import accuracy_table, write_runs
    from volseg.report.summary import RegionSummary, Spread, Summary, summarise
    from volseg.report.table import short_table, write_report
    from volseg.report.training_run import SCHEMA, check_alike, has_best, is_run, read_run, running_process, status_of

__all__ = [
    "SCHEMA",
    "RegionSummary",
    "RoundCurve",
    "RoundPoint",
    "Spread",
    "Summary",
    "accuracy_table",
    "check_alike",
    "has_best",
    "is_run",
    "plan_as_lines",
    "plan_as_text",
    "read_run",
    "remove_html",
    "round_point",
    "run_as_markdown",
    "running_process",
    "short_comparison",
    "short_list",
    "short_promises",
    "short_table",
    "status_of",
    "summarise",
    "this_process",
    "write_comparison",
    "write_days_page",
    "write_html",
    "write_plan_page",
    "write_quality",
    "write_report",
    "write_rounds",
    "write_runs",
]

# A command that writes a table alone need not load pages, pictures and plans.
__getattr__ = opened_at_first_use(
    {
        "volseg.report.comparison": (
            "short_comparison",
            "write_comparison",
        ),
        "volseg.report.days_page": ("write_days_page",),
        "volseg.report.html": ("remove_html", "write_html"),
        "volseg.report.plan": (
            "plan_as_lines",
            "plan_as_text",
        ),
        "volseg.report.plan_page": ("write_plan_page",),
        "volseg.report.process": ("this_process",),
        "volseg.report.promises": ("short_promises",),
        "volseg.report.quality": (
            "short_list",
            "write_quality",
        ),
        "volseg.report.rounds": (
            "RoundCurve",
            "RoundPoint",
            "round_point",
            "write_rounds",
        ),
        "volseg.report.run_summary": ("run_as_markdown",),
        "volseg.report.runs": (
            "accuracy_table",
            "write_runs",
        ),
        "volseg.report.summary": (
            "RegionSummary",
            "Spread",
            "Summary",
            "summarise",
        ),
        "volseg.report.table": (
            "short_table",
            "write_report",
        ),
        "volseg.report.training_run": (
            "SCHEMA",
            "check_alike",
            "has_best",
            "is_run",
            "read_run",
            "running_process",
            "status_of",
        ),
    }
)
