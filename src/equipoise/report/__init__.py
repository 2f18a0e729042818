"""Reports: one self-contained HTML file that says what was found, and shows it."""

from equipoise.report.write import (
    write_comparison_report,
    write_diagnosis_report,
    write_report,
    write_run_report,
)

__all__ = ["write_comparison_report", "write_diagnosis_report", "write_report", "write_run_report"]
