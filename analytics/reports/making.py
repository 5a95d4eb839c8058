"""From a source to a finished report, in any form."""

from typing import TYPE_CHECKING, Literal

from analytics.reports.data import Data, Question, of_fleet, of_user
from analytics.reports.model import Report

if TYPE_CHECKING:
    from analytics.sources import Source

__all__ = ["FORMS", "Form", "encoded", "fleet", "user"]

Form = Literal["html", "pdf", "png", "md", "json"]
FORMS: tuple[Form, ...] = ("html", "pdf", "png", "md", "json")


def fleet(source: "Source", question: Question, *, made_ms: int, named: str) -> Report:
    """The report on all machines of `source`, which is `named` so. Raises NothingThere, and what the source raises."""
    from analytics.reports.fleet import fleet_report

    data: Data = of_fleet(source, question)
    return fleet_report(data, made_ms=made_ms, source=named)


def user(source: "Source", user_id: str, question: Question, *, made_ms: int, named: str) -> Report:
    """The report on one machine. Raises NothingThere, and what the source raises."""
    from analytics.reports.user import user_report

    data: Data = of_user(source, user_id, question)
    return user_report(data, made_ms=made_ms, source=named)


def encoded(report: Report, form: Form, *, user_path: str | None = None) -> bytes:
    """The report in a form; on a page names of machines link to `user_path` and the name.

    Raises analytics.reports.browser.BrowserError where a PDF or PNG cannot be made.
    """
    from analytics.reports import browser, document, html, markdown

    match form:
        case "html":
            return html.render(report, user_path=user_path).encode()
        case "pdf":
            return browser.print_pdf(html.render(report, theme="light"))
        case "png":
            return browser.photograph(html.render(report, theme="light"))
        case "md":
            return markdown.render(report).encode()
        case "json":
            return document.render(report)
