"""What a notebook shows of a result: the words, tables and charts of its report, without scripts.

Results lie in rooms below this one and find these functions by name, see `equipoise.types.InNotebooks`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from equipoise.diagnosis import Diagnosis
from equipoise.diagnosis.contribution.contributions import Contributions
from equipoise.diagnosis.verdict.verdict import Verdict
from equipoise.experiments.compare.comparison import Comparison
from equipoise.experiments.examine.examination import Examination
from equipoise.relearning import Monitor
from equipoise.report.charts.chart import Chart
from equipoise.report.html import printed
from equipoise.report.pages.page import Notice, Page, Section
from equipoise.report.records import runs_of
from equipoise.report.render import file_bytes
from equipoise.report.text.detail_tables import states_table
from equipoise.report.text.sentences import Statement
from equipoise.report.text.tables import Table
from equipoise.training.finished import FitResult


def chart(found: Chart) -> str:
    """Return a chart as an HTML fragment."""
    return _fragment(Section("", charts=[found]))


def diagnosis(found: Diagnosis) -> str:
    """Return a learning state: the scores of each modality as a chart and a table."""
    from equipoise.report.charts.states import states

    return _fragment(Section("", tables=[states_table(found)], charts=_drawn(states(found))))


def contributions(found: Contributions) -> str:
    """Return the contributions of each modality."""
    from equipoise.report.charts.contributions import contributions as drawn

    charts = _drawn(drawn(found))
    return _fragment(Section("", tables=_numbers(charts), charts=charts))


def verdict(found: Verdict) -> str:
    """Return the verdict on one modality: its reasons, and what to try."""
    said = Statement(found.modality, f"{found.state}.", " ".join(found.reasons))
    notices = [Notice("What to try:", found.advice)] if found.advice else []
    notices += [Notice(text) for text in (*found.remarks, *found.lacks)]
    return _fragment(Section("", statements=[said], notices=notices))


def examination(found: Examination) -> str:
    """Return verdicts, numbers and charts of an examination."""
    from equipoise.report.pages.examination import examination_page

    return _of_page(examination_page(found), "eq.write_examination_report(found, 'diagnosis.html')")


def monitor(found: Monitor) -> str:
    """Return what a monitor has measured so far."""
    from equipoise.report.pages.monitor import monitor_page

    return _of_page(monitor_page(found), "eq.write_monitor_report(monitor, 'watch.html')")


def comparison(found: Comparison) -> str:
    """Return findings, results and charts of a comparison."""
    from equipoise.report.pages.comparison import comparison_page

    return _of_page(comparison_page(found, runs_of(found)), "eq.write_report([folder])")


def run(found: FitResult) -> str:
    """Return findings, figures and charts of a run."""
    from equipoise.report.pages.run import run_page

    return _of_page(run_page(found.run_dir), f"eq.write_report([{str(found.run_dir)!r}])")


def _of_page(page: Page, call: str) -> str:
    """Return what is at the top of a page, without its details; `call` writes all of it."""
    first = next((section for section in page.sections if section.tables), None)
    tables = [*page.tables, *(first.tables if first else ())]
    return _fragment(
        Section(page.title, (), page.statements, page.notices, tables, charts=page.charts),
        f"{call} writes the whole page.",
    )


def _fragment(section: Section, remark: str = "") -> str:
    pictures = [
        {
            "picture": _picture(one),
            "caption": one.caption,
            "description": " ".join(panel.description for panel in one.panels),
        }
        for one in section.charts
    ]
    return _template().render(section=section, pictures=pictures, remark=remark)


def _picture(found: Chart) -> str:
    """Return a chart's SVG as an address: as a picture it has its own colours and ids."""
    from equipoise.report.charts.figure import figure

    return "data:image/svg+xml;base64," + b64encode(file_bytes(figure(found), "svg")).decode()


def _drawn(found: Chart | None) -> list[Chart]:
    return [] if found is None else [found]


def _numbers(charts: Sequence[Chart]) -> list[Table]:
    return [one.numbers for one in charts if one.numbers is not None]


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("equipoise.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printed,
    )
    return environment.get_template("notebook.html.j2")
