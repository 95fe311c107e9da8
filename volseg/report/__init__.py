"""Reports: rows of metrics become tables that state their definitions, their coverage and their failures."""

from volseg.report.summary import RegionSummary, Spread, Summary, summarise
from volseg.report.table import short_table, write_report

__all__ = ["RegionSummary", "Spread", "Summary", "short_table", "summarise", "write_report"]
