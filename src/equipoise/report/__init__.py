"""Reports: one self-contained HTML file that says what was found, and shows it."""

from equipoise.report.write import default_path as default_path
from equipoise.report.write import write_comparison_report as write_comparison_report
from equipoise.report.write import write_critical_difference as write_critical_difference
from equipoise.report.write import write_examination_figures as write_examination_figures
from equipoise.report.write import write_examination_report as write_examination_report
from equipoise.report.write import write_grid_report as write_grid_report
from equipoise.report.write import write_monitor_report as write_monitor_report
from equipoise.report.write import write_preview as write_preview
from equipoise.report.write import write_report as write_report
from equipoise.report.write import write_report_figures as write_report_figures
