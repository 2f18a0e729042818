"""Reports: one self-contained HTML file that says what was found, and shows it."""

from equipoise.report.write import (
    default_path,
    write_comparison_report,
    write_critical_difference,
    write_examination_figures,
    write_examination_report,
    write_report,
    write_report_figures,
)

__all__ = [
    "default_path",
    "write_comparison_report",
    "write_critical_difference",
    "write_examination_figures",
    "write_examination_report",
    "write_report",
    "write_report_figures",
]
