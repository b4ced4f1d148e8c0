"""The report as one HTML file that needs nothing else: it opens offline, years later."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from asr.scoring.alignment import ABSENT, Op
from asr.scoring.report import Report, percent, summary_rows

FREQUENT = 50  # rows of the table of errors


def page(report: Report) -> str:
    """The HTML. Texts come from corpora and models, so all of them are escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = percent
    template = environment.from_string(
        files("asr.scoring").joinpath("page.html.j2").read_text(encoding="utf-8")
    )
    return template.render(
        report=report,
        measure=report.measure,
        rows=summary_rows(report),
        confusions=report.confusions[:FREQUENT],
        lines=sorted(report.lines, key=lambda line: (-line.scores.errors, line.utterance.id)),
        absent=ABSENT,
        Op=Op,
    )
