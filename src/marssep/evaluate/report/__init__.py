"""The HTML report of an evaluation: one file with tables, plots and players, the same bytes for the same run."""

from marssep.evaluate.report.items import items_json, read_table
from marssep.evaluate.report.page import MOST_BYTES, html_report
from marssep.evaluate.report.run import Run, read_run

__all__ = ["MOST_BYTES", "Run", "html_report", "items_json", "read_run", "read_table"]
