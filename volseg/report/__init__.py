"""Reports: rows of metrics become tables that state their definitions, their coverage and their failures."""

from volseg.report.summary import RegionSummary, Spread, Summary, summarise
from volseg.report.table import write_report

__all__ = ["RegionSummary", "Spread", "Summary", "summarise", "write_report"]
