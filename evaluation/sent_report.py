"""A campaign that was sent without decisions: what came after its messages, and that nobody can tell what it earned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from evaluation.campaigns import Measure, campaign_measures
from evaluation.experiments import Verdict
from evaluation.intervals import Interval
from evaluation.pages import render, write_report
from evaluation.units import Unit
from evaluation.uplift_report import Run

TEMPLATE = Path(__file__).with_name("sent_report.html.jinja")
SHOWN = ("open rate", "click rate", "conversion rate", "unsubscribe rate")
"""By group; all measures of everybody."""
COUNTED = ("sent", "delivered", "opened", "clicked", "unsubscribed")
SENTENCE = (
    "This cannot tell what the campaign earned: nobody comparable was left out. Hold out a share of the people next "
    "time (setting holdout of [arms]) and ask the service whom to send it (/v1/actions, /v1/offers or /v1/variants). "
    "If another tool left people out at random, import who they were as decisions."
)


@dataclass(frozen=True, eq=False)
class SentReport:
    """Everything on the page.

    Attributes:
        campaign: Its id.
        about: How many were sent what when, in words.
        horizon_days: How long after the first message what people do counts.
        currency: Of the money.
        counts: Messages that were sent, delivered, opened (by a person), clicked and unsubscribed from.
        people: Who were sent any.
        measures: Of everybody, by channel and by week of the first message.
        run: What it was made of.
    """

    campaign: str
    about: str
    horizon_days: float
    currency: str
    counts: Mapping[str, int]
    people: int
    measures: tuple[Measure, ...]
    run: Run

    @property
    def verdict(self) -> Verdict:
        """Always that it cannot tell."""
        return Verdict("cannot tell", SENTENCE, Interval.around(np.nan))

    @property
    def whole(self) -> dict[str, Measure]:
        """Measures of everybody, by name."""
        return {m.name: m for m in self.measures if not m.attribute}


def sent_report(recipients: pd.DataFrame, *, campaign: str, horizon_days: float, currency: str, run: Run) -> SentReport:
    """Describe a campaign by those whom it reached.

    Args:
        recipients: As `features.campaigns.recipients` has them, of one campaign.
        campaign: Its id.
        horizon_days: The same as there.
        currency: Of the money.
        run: What the rows are from.
    """
    rows = recipients.sort_values("user_id", ignore_index=True)
    monday = rows["sent_at"] - pd.to_timedelta(rows["sent_at"].dt.weekday, unit="D")
    rows["week"] = monday.dt.strftime("%Y-%m-%d")
    by = [name for name in ("channel", "week") if len(set(rows[name])) > 1]
    first, last = (f"{at:%Y-%m-%d}" for at in (rows["sent_at"].min(), rows["sent_at"].max()))
    when = f"on {first}" if first == last else f"from {first} to {last}"
    counts = {name: int(rows[name].sum()) for name in COUNTED}
    return SentReport(
        campaign=campaign,
        about=f"{counts['sent']:,} messages to {len(rows):,} people, first ones {when}",
        horizon_days=horizon_days,
        currency=currency,
        counts=counts,
        people=len(rows),
        measures=campaign_measures(rows, horizon_days=horizon_days, by=by),
        run=run,
    )


def text(report: SentReport) -> str:
    """The findings as lines for a terminal."""
    lines = [SENTENCE, f"  {report.about}"]
    for m in report.whole.values():
        unit = Unit(m.unit, report.currency)
        lines += [f"  {m.name}: {unit.level(m.value)} ({unit.range(m.value)})"] if m.people else []
    return "\n".join(lines)


def metrics(report: SentReport) -> dict[str, Interval]:
    """The measures of everybody by name."""
    return {name: m.value for name, m in report.whole.items()}


def write(report: SentReport, path: Path) -> None:
    """Write a page that needs nothing else, `.html`, or all its numbers, `.json`; same report, same bytes.

    Raises:
        DataError: another suffix.
    """
    groups: dict[str, dict[str, dict[str, Measure]]] = {}
    for m in report.measures:
        if m.attribute:
            groups.setdefault(m.attribute, {}).setdefault(m.group, {})[m.name] = m
    write_report(
        path,
        page=lambda: render(
            TEMPLATE,
            r=report,
            title=f"Campaign {report.campaign}: what came after it",
            width="52rem",
            groups=groups,
            shown=SHOWN,
            units={m.name: Unit(m.unit, report.currency) for m in report.measures},
        ),
        numbers=lambda: {"sentences": {"verdict": SENTENCE}} | asdict(report),
    )
