"""From logged decisions to a report: what a campaign, or all that was decided, changed for those it was decided for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version

import numpy as np
import pandas as pd

from data.chance import some_rows
from data.errors import DataError
from data.tables import Tables
from data.workspace import Workspace
from evaluation.campaigns import Campaign, Measure, TimeToConversion, campaign_measures, funnel, time_to_conversion
from evaluation.choices import HOLDOUT, NOTHING, RANDOM, compare_choices
from evaluation.experiments import (
    AlwaysValid,
    Analysis,
    Comparison,
    Experiment,
    Metric,
    Period,
    analyse,
    difference_of_means,
    read_experiment,
)
from evaluation.experiments.means import Difference, as_numbers
from evaluation.intervals import Interval
from evaluation.sent_report import SentReport, sent_report
from evaluation.units import Unit
from evaluation.uplift_report import Offers, Run, UpliftReport, Who
from features.campaigns import recipients
from features.decided import (
    KINDS,
    attributes_before,
    bought_before,
    brought,
    by_week,
    decided,
    first_decisions,
    responses,
)
from features.profile import attributes
from features.snapshots import span
from training.uplift_report import (
    MOST_GROUPS,
    MOST_LEARNT,
    NOT_TRUSTED,
    analysed,
    judge_who,
    learn,
    people_per_day,
    plans_of,
    profits_of,
)

MODEL, USUAL, VARIANT = "model", "usual", "variant"
LEFT_ALONE = "people left alone"
TOLERATED = 0.005
"""Unsubscriptions per message that a verdict bears where others are sent nothing; sending tools warn from there on."""
CONTROLS = (HOLDOUT, USUAL, RANDOM)
"""Arms that others are held against, the first that there is."""
WITHIN_DAYS = 14
"""How long after a decision what people do counts, unless it is told."""
CHOOSES = {
    MODEL: "what the model chooses",
    USUAL: "what the usual rule chooses",
    RANDOM: "what chance chooses",
}
ACTIONS = {
    MODEL: "let the model choose",
    USUAL: "let the usual rule choose",
    RANDOM: "let chance choose",
}
CHOICES = {
    MODEL: "the model's choices",
    USUAL: "the usual rule's choices",
    RANDOM: "choices at random",
    HOLDOUT: f"doing nothing (holdout: {LEFT_ALONE} by chance)",
}
SHOWN_OLDEST = "shown the slot's oldest variant"
"""What is done with the holdout where variants alone are decided: nobody can be left alone in a slot."""
MOST_CHOICES = 30
MAX_IN_TWO_ARMS = 0.01
NUMBERS = ("spend_before", "orders_before", "days_since_order")
ORDERED, AGAIN, CLICK, LEFT = "an order", "two orders or more", "a click", "an unsubscription"
"""Columns of yes and no, called as they are told: "share of people with an order"."""
LEVEL = 0.95
LIMIT = "It tells what these decisions changed for these people at that time; another season or offer may do otherwise."


@dataclass(frozen=True)
class _Asked:
    """What is to be reported on, as `campaign_report` has it; `margin` as `features.decided.responses` does."""

    campaign: str | None
    kinds: tuple[str, ...]
    since: datetime | None
    days: float | None
    margin: float | None

    @property
    def within_days(self) -> float:
        """How long after a decision, or a message, what people do counts where each is looked at on its own."""
        return self.days or WITHIN_DAYS


@dataclass(frozen=True, eq=False)
class _Rows:
    """What a report is made from.

    Attributes:
        decisions: As `features.decided.decided` has them.
        people: A row per person and arm: their first decision, what they did from it on, what was known before.
        metrics: Over columns of `people`, the first decides.
        units: Of each, by the name that the metric is told by.
        sent: What sending cost, as `_sent` has it.
        until: Everything is known up to then.
        alone: Whether there is a holdout that was left alone.
    """

    decisions: pd.DataFrame
    people: pd.DataFrame
    metrics: tuple[Metric, ...]
    units: Mapping[str, Unit]
    sent: pd.DataFrame
    until: datetime
    alone: bool

    def watched(self, days: float | None) -> pd.DataFrame:
        """People who were watched for so long."""
        return self.people if days is None else self.people[self.people["watched_days"] >= days]


def campaign_report(
    workspace: Workspace,
    *,
    campaign: str | None = None,
    kinds: Sequence[str] = KINDS,
    since: datetime | None = None,
    days: float | None = None,
) -> UpliftReport:
    """What a campaign, or all that was decided, changed: each arm against those who were left alone.

    People are the units, by the arm of their first decision: whatever they do from it on counts, whether or not they
    were sent anything, so that arms stay as they were drawn. The first of profit, revenue and orders that the shop
    can tell decides; who unsubscribes from anything is the guardrail. Of all decisions people are looked at while the
    experiment runs, so that verdicts follow intervals that hold at every look.

    Args:
        workspace: Checked, with `decisions`.
        campaign: One campaign; None = all decisions.
        kinds: Of decisions.
        since: Decisions from then on; by default all, or where people were shared out anew, those of the last period.
        days: How long after their first decision what people do counts; by default 14 days of a campaign, and else
            all that is known.

    Raises:
        DataError: no decisions, no such campaign, one arm alone, or nothing known of what came after.
    """
    tables, settings = workspace.checked, workspace.settings
    days = WITHIN_DAYS if days is None and campaign else days
    asked = _Asked(campaign, tuple(kinds), since, days, settings.offers.margin)
    decisions, notes = _decisions(tables, asked, settings.arms.period_days)
    told = _rows(tables, decisions, asked, workspace)
    people = told.watched(asked.days)
    control = next((name for name in CONTROLS if (people["arm"] == name).any()), "")
    arms = [name for name in (MODEL, USUAL, RANDOM) if name != control and (people["arm"] == name).any()]
    if not arms:
        raise DataError(
            f"all of these decisions were made in one arm ({people['arm'].iloc[0]}), so there is nobody to hold it "
            "against. Leave some people alone (settings [arms]) and report again when they were decided for."
        )
    oldest = control == HOLDOUT and not told.alone
    experiment = _experiment(told, asked, control, attributes(settings.features))
    first, running = told.metrics[0], campaign is None
    values = as_numbers(experiment.rows[first.outcome], name=first.told)
    unit = told.units[first.told]
    per_day = people_per_day(experiment.rows["at"]) if running else None
    costs = _costs_by_arm(told, experiment, asked.days)
    analysis = analysed(
        experiment,
        told.metrics,
        values,
        unit,
        worth=costs or 0.0,
        planned_people=len(values) if running else None,
        people_per_day=per_day,
        actions=ACTIONS,
        seed=settings.training.seed,
    )
    analysis = replace(analysis, verdict=analysis.verdicts[arms[0]])
    found, left_out = _who(experiment, values, analysis, arms[0], unit, cost=costs.get(arms[0], 0.0))
    offers, no_offers = _offers(workspace, told, asked, arms[0], unit)
    earned = _earned(told, people, arms, running=running)
    return UpliftReport(
        analysis=analysis,
        units=told.units,
        profits=profits_of(analysis, costs),
        who=found,
        offers=offers,
        tree="",
        periods=_periods(tables, told, asked, experiment),
        left_out=left_out,
        notes=(*_notes(told, experiment, settings.offers.contact_costs, running=running), *notes),
        run=_run(workspace, told, asked),
        plans=plans_of(analysis, arms[0], worth=costs.get(arms[0], 0.0), people_per_day=per_day),
        campaign=Campaign(
            about=_about(decisions, campaign),
            asked=_in_words(arms, control, oldest=oldest),
            horizon_days=asked.within_days,
            currency=settings.shop.currency,
            measures=_measures(tables, told, asked),
            soon=_soon(told.people, (control, *arms)),
            funnel=funnel(decisions),
            missing=_missing(earned, no_offers),
            holdout=SHOWN_OLDEST if oldest else LEFT_ALONE,
        ),
        earned=earned,
        kept=_kept(earned, costs),
        currency=settings.shop.currency,
    )


def messages_report(workspace: Workspace, *, campaign: str, days: float | None = None) -> SentReport:
    """What came after the messages of a campaign that was sent without decisions; what it changed nobody can tell.

    Args:
        workspace: Checked.
        campaign: Which.
        days: How long after the first message what people do counts; by default 14.

    Raises:
        DataError: no messages, or none of this campaign.
    """
    tables, horizon_days = workspace.checked, days or WITHIN_DAYS
    until = span(tables).end
    rows = recipients(tables, until, horizon_days=horizon_days, campaign=campaign).execute()
    if rows.empty:
        raise DataError(f"no campaign {campaign!r}: neither a decision nor a message names it.")
    run = Run(
        source=f"tables up to {until:%Y-%m-%d}",
        sha256=workspace.fingerprint(),
        rows=len(rows),
        version=version("attune"),
        options={"campaign": campaign} | ({} if days is None else {"days": f"{days:g}"}),
    )
    currency = workspace.settings.shop.currency
    return sent_report(rows, campaign=campaign, horizon_days=horizon_days, currency=currency, run=run)


def _decisions(tables: Tables, asked: _Asked, period_days: int) -> tuple[pd.DataFrame, list[str]]:
    """The decisions to report on, with `until`, the moment up to which their arms hold; and what was left out."""
    end, notes = span(tables).end, []
    rows = decided(tables, end, campaign=asked.campaign, kinds=asked.kinds, since=asked.since)
    drawn = rows["arm_share"] < 1
    if not drawn.all():
        notes.append(f"Left out: {(~drawn).sum():,} decisions about people whose arm was not drawn (strangers).")
        rows = rows[drawn]
    alone = _alone(rows)
    if alone and (others := set(rows["kind"]) - alone):
        notes.append(
            f"Left out: decisions of kind {', '.join(sorted(others))}, for which nobody was left alone (--kind)."
        )
        rows = rows[rows["kind"].isin(alone)]
    rows = rows.assign(until=pd.Timestamp(end))
    in_two = rows.groupby("user_id")["arm"].nunique() > 1  # noqa: PD101 - by person
    if asked.campaign is None and asked.since is None and in_two.mean() > MAX_IN_TWO_ARMS:
        zero, period = pd.Timestamp(0, tz="UTC"), pd.Timedelta(days=period_days)
        number = (rows["at"] - zero) // period
        young = pd.Timestamp(end) - zero - number.max() * period < period / 2
        newest = number.max() - (young and (number == number.max() - 1).any())
        start = zero + newest * period
        rows = rows[number == newest].assign(until=min(pd.Timestamp(end), start + period))
        notes.append(
            f"People are shared out anew every {period_days} days; this is the period from {start:%Y-%m-%d} "
            "(--since for another)."
        )
    if rows.empty:
        raise DataError(
            " ".join(["No decision is left to report on.", *notes, "Leave some people alone (settings [arms])."])
        )
    return rows.reset_index(drop=True), notes


def _alone(rows: pd.DataFrame) -> set[str]:
    """The kinds whose holdout was left alone; of variants it is shown the oldest, unless it was left out elsewhere."""
    held = rows[rows["arm"] == HOLDOUT]
    shown = (held["kind"] == VARIANT) & (held["chosen"] != NOTHING)
    return set(held["kind"]) - set(held.loc[shown, "kind"])


def _about(rows: pd.DataFrame, campaign: str | None) -> str:
    kinds = " and ".join(sorted(set(rows["kind"])))
    what = f"Campaign {campaign}" if campaign else f"Decisions of kind {kinds}"
    first, last = (f"{at:%Y-%m-%d}" for at in (rows["at"].min(), rows["at"].max()))
    when = f"on {first}" if first == last else f"from {first} to {last}"
    return f"{what}: {len(rows):,} decisions of kind {kinds}, {when}, about {rows['user_id'].nunique():,} people"


def _in_words(arms: Sequence[str], control: str, *, oldest: bool) -> str:
    other = f"people {SHOWN_OLDEST} (holdout)" if oldest else CHOICES[control]
    told = f"Compared: {CHOICES[arms[0]]} with {other}."
    return told if arms[0] == MODEL else f"{told} No decision was made by a model yet."


def _run(workspace: Workspace, told: _Rows, asked: _Asked) -> Run:
    options = {
        "campaign": asked.campaign or "",
        "decisions": "" if asked.campaign else ",".join(sorted(set(told.decisions["kind"]))),
        "since": f"{asked.since:%Y-%m-%d}" if asked.since else "",
        "days": "" if asked.days is None else f"{asked.days:g}",
    }
    return Run(
        source=f"tables up to {told.until:%Y-%m-%d}",
        sha256=workspace.fingerprint(),
        rows=len(told.decisions),
        version=version("attune"),
        options={name: value for name, value in options.items() if value},
    )


def _rows(tables: Tables, rows: pd.DataFrame, asked: _Asked, workspace: Workspace) -> _Rows:
    until, days = rows["until"].iloc[0].to_pydatetime(), asked.days
    people = rows.drop_duplicates(["user_id", "arm"])[["user_id", "arm", "arm_share", "at", "place", "channel"]]
    first = people.drop_duplicates("user_id")
    done = responses(tables, until, first, horizon_days=days, margin=asked.margin)
    began = first_decisions(tables, until)  # later, their arm had done its work
    began = began[began["user_id"].isin(first["user_id"])]
    known = attributes_before(tables, began, attributes(workspace.settings.features))
    sent = _sent(tables, until, rows, workspace.settings.offers.contact_costs)
    people = people.set_index("user_id").join(done).join(bought_before(tables, began)).join(known).reset_index()
    people[ORDERED] = (people["orders"] > 0).astype("float64")
    people[AGAIN] = (people["orders"] > 1).astype("float64")
    clicks = rows[rows["clicked_at"] < pd.Timestamp(until)]
    since = clicks["clicked_at"] - clicks["user_id"].map(first.set_index("user_id")["at"])
    clicked = clicks["user_id"] if days is None else clicks.loc[since < pd.Timedelta(days=days), "user_id"]
    people[LEFT] = people["unsubscribed"]
    people[CLICK] = people["user_id"].isin(clicked).astype("float64")
    for name in ("place", "channel"):
        if people[name].isna().any():  # known only of those who were sent something, it would tell the arm
            people = people.drop(columns=name)
    if days is not None and not (people["watched_days"] >= days).any():
        raise DataError(
            f"nobody has been watched for {days:g} days since they were decided for (the newest order or event is of "
            f"{until:%Y-%m-%d}). Report later, or count fewer days with --days."
        )
    alone = bool(_alone(rows))
    metrics, units = _metrics(people, rows["sent"].sum() / len(people), workspace.settings.shop.currency, alone=alone)
    return _Rows(rows, people, metrics, units, sent, until, alone)


def _metrics(
    people: pd.DataFrame, messages_each: float, currency: str, *, alone: bool
) -> tuple[tuple[Metric, ...], Mapping[str, Unit]]:
    """What is measured of these people, the first decides; and the unit of each, by the name it is told by."""
    before = tuple(name for name in NUMBERS if people[name].notna().any())
    metrics, units = [], {}
    for column, name in (("profit", "profit per person"), ("revenue", "revenue per person"), ("orders", "orders")):
        if people[column].notna().any():
            metrics.append(Metric(column, before=before, name=name))
            units[name] = Unit("money", currency) if column != "orders" else Unit("amount")
    metrics += [
        Metric(ORDERED, before=before, name=f"people with {ORDERED}"),
        Metric(AGAIN, before=before, name=f"people with {AGAIN}"),
    ]
    if not alone:
        metrics.insert(0, Metric(CLICK, name="clicks"))
    # Who is left alone has no message to unsubscribe from.
    tolerated = TOLERATED * max(1.0, messages_each) if alone else 0.0
    metrics.append(Metric(LEFT, name="unsubscriptions", lower_is_better=True, guardrail=True, tolerated=tolerated))
    return tuple(metrics), units | {m.told: Unit("share") for m in metrics if m.told not in units}


def _sent(tables: Tables, until: datetime, rows: pd.DataFrame, costs: Mapping[str, float]) -> pd.DataFrame:
    """The messages of decisions: `decision_id, user_id` (whom it is about), `at, channel, cost`; none if none cost."""
    messages = tables.as_of(until)["messages"]
    told = messages.filter(~messages.decision_id.isnull() if any(costs.values()) else False)
    sent = told.select("decision_id", "channel", at=told.sent_at).execute()
    sent = sent.merge(rows[["decision_id", "user_id"]], on="decision_id")
    return sent.assign(cost=sent["channel"].map(costs).fillna(0.0).astype("float64"))


def _experiment(told: _Rows, asked: _Asked, control: str, attributes: Sequence[str]) -> Experiment:
    """The people who were watched long enough, by arm, with what was known of them before."""
    people = told.watched(asked.days)
    before = [name for name in people if name in (*NUMBERS, *attributes, "place", "channel")]
    found = read_experiment(
        people,
        treatment="arm",
        control=control,
        shares=_shares(people),
        user="user_id",
        segments=_groups(people, before),
        before=before,
    )
    if late := len(told.people) - len(people):
        return replace(found, left_out={**found.left_out, f"not yet watched for {asked.days:g} days": late})
    return found


def _costs_by_arm(told: _Rows, experiment: Experiment, days: float | None) -> dict[str, float]:
    """What sending cost per person of each treated arm, more than of the control; empty where profit does not decide.

    It is no part of what people bring, on which all is measured: a small cost of everybody would hide how few of them
    bring anything, and tell the arms apart.
    """
    if told.metrics[0].outcome != "profit" or not told.sent["cost"].any():
        return {}
    rows, sent = experiment.rows, told.sent
    if days is not None:
        since = sent["at"] - sent["user_id"].map(rows.drop_duplicates("user_id").set_index("user_id")["at"])
        sent = sent[since < pd.Timedelta(days=days)]
    each = rows["user_id"].map(sent.groupby("user_id")["cost"].sum()).fillna(0.0).to_numpy(np.float64)
    mean = np.bincount(experiment.arm, each) / np.bincount(experiment.arm)
    return {arm: float(cost - mean[0]) for arm, cost in zip(experiment.arms[1:], mean[1:], strict=True)}


def _groups(people: pd.DataFrame, before: Sequence[str]) -> list[str]:
    """Columns of few words; of those that say the same in other words (a country, its language) the first."""
    found: dict[bytes, str] = {}
    for name in before:
        if name not in NUMBERS and 2 <= people[name].nunique() <= MOST_GROUPS:
            found.setdefault(pd.factorize(people[name])[0].tobytes(), name)
    return list(found.values())


def _shares(people: pd.DataFrame) -> dict[str, float] | None:
    """Planned shares of the arms; None where they changed on the way or do not add up."""
    told = people.groupby("arm")["arm_share"].agg(["min", "max"])
    if (told["max"] - told["min"] > 1e-9).any() or abs(told["max"].sum() - 1) > 0.02:
        return None
    return {str(name): float(share) for name, share in told["max"].items()}


def _who(
    experiment: Experiment, values: np.ndarray, analysis: Analysis, arm: str, unit: Unit, *, cost: float
) -> tuple[Who | None, str]:
    """Who gains from an arm; or why that is not told."""
    if analysis.verdict.kind == "not to be trusted":
        return None, NOT_TRUSTED
    two = np.flatnonzero(np.isin(experiment.arm, (0, experiment.arms.index(arm))))
    drawn = two[some_rows(len(two), MOST_LEARNT, seed=0)]
    try:
        paid = {arm: cost} if cost > 0 else {experiment.arms[0]: -cost}  # one of them cost so much more
        earned = {"margin": 1.0, "costs": paid} if cost else {}
        found = judge_who(learn(experiment, drawn, values, experiment.before, earned=earned, seed=0), arm, unit)
    except DataError as error:
        return None, f"Left out: {error}"
    return replace(found, arm=CHOOSES[arm]), ""


def _offers(workspace: Workspace, told: _Rows, asked: _Asked, arm: str, unit: Unit) -> tuple[tuple[Offers, ...], str]:
    """What each choice is worth in the days after a decision, of the kind with most decisions; or why not."""
    days, first = asked.within_days, told.metrics[0].outcome
    rows = told.decisions[told.decisions["at"] <= pd.Timestamp(told.until) - pd.Timedelta(days=days)]
    rows = rows[rows["probability"].between(0, 1, inclusive="right")]
    rows = rows[rows["kind"] == rows["kind"].value_counts().index[0]] if len(rows) else rows
    if arm not in set(rows["arm"]):
        return (), f"no decision of the arm {arm} is {days:g} days old"
    if (n := rows["chosen"].nunique()) > MOST_CHOICES:
        return (), f"there are {n} choices, more than {MOST_CHOICES}"
    name = "clicks" if first == CLICK else first
    if first == CLICK:
        reward = (rows["clicked_at"] - rows["at"] < pd.Timedelta(days=days)).to_numpy(np.float64)
    else:
        found = brought(workspace.checked, told.until, rows, value=first, horizon_days=days, margin=asked.margin)
        reward = found.to_numpy()
    if first == "profit" and told.sent["cost"].any():
        cost = told.sent.groupby("decision_id")["cost"].sum()
        name, reward = "profit after cost", reward - cost.reindex(rows["decision_id"], fill_value=0.0).to_numpy()
    # Among variants the model too leaves each its chance; offers and actions it gives to those whom they suit.
    floored = rows["kind"].iloc[0] == VARIANT and workspace.settings.variants.floor > 0
    by_chance = (RANDOM, MODEL) if floored else (RANDOM,)
    choices = compare_choices(rows.assign(reward=reward), first=arm, by_chance=by_chance)
    return (Offers(f"{name} within {days:g} days of a decision", unit, choices, chooser=CHOOSES[arm]),), ""


def _earned(told: _Rows, people: pd.DataFrame, arms: Sequence[str], *, running: bool) -> tuple[Comparison, ...]:
    """What the first arm brings more than each other one, every metric."""
    found: list[Comparison] = []
    for other in arms[1:]:
        two = people[people["arm"].isin((arms[0], other))]
        pair = read_experiment(two, treatment="arm", control=other, user="user_id")
        found += analyse(pair, told.metrics, planned_people=len(two) if running else None).comparisons
    return tuple(found)


def _kept(earned: Sequence[Comparison], costs: Mapping[str, float]) -> dict[str, Interval]:
    """By the other arm: what the first one brings more of the first metric, less what sending cost more; as `costs`."""
    first = {c.control: c for c in reversed(earned)} if costs else {}
    return {
        other: first[other].interval.scaled(1.0, less=costs[first[other].arm] - cost)
        for other, cost in costs.items()
        if other in first
    }


def _periods(tables: Tables, told: _Rows, asked: _Asked, experiment: Experiment) -> dict[str, tuple[Period, ...]]:
    """Week by week: what people who were decided for by then brought in it, and in all so far."""
    rows, first = experiment.rows, told.metrics[0].outcome
    if first == CLICK:
        return {}
    weekly = by_week(tables, told.until, rows, value=first, horizon_days=asked.days, margin=asked.margin)
    start = rows["at"].min().normalize()
    joined = ((rows["at"] - start) // pd.Timedelta(days=7)).to_numpy()
    weeks = int(max(joined.max(), weekly["week"].max() if len(weekly) else 0)) + 1
    person = pd.Index(rows["user_id"]).get_indexer(weekly["user_id"])
    table = np.zeros((len(rows), weeks))
    np.add.at(
        table, (person[person >= 0], weekly["week"].to_numpy()[person >= 0]), weekly["value"].to_numpy()[person >= 0]
    )
    sums = table.cumsum(axis=1)
    found: dict[str, tuple[Period, ...]] = {}
    for code, arm in enumerate(experiment.arms[1:], start=1):
        periods = []
        for week in range(weeks):
            treated, control = ((experiment.arm == c) & (joined <= week) for c in (code, 0))
            if min(treated.sum(), control.sum()) < 2:
                continue
            so_far = difference_of_means(sums[treated, week], sums[control, week])
            here = difference_of_means(table[treated, week], table[control, week])
            day = start + pd.Timedelta(days=7 * week)
            periods.append(Period(str(day.date()), here, so_far, _at_every_look(so_far, week + 1)))
        found[arm] = tuple(periods)
    return found


def _at_every_look(difference: Difference, look: int) -> AlwaysValid:
    """The interval of one of all looks, the first being 1, that hold together, however many follow (Bonferroni).

    The k-th has 1 / (k (k + 1)) of the error, which sums to 1: shared out evenly among the looks so far, it would be
    exceeded by who reads the newest one every week.
    """
    parts = look * (look + 1)
    if not difference.enough:
        return AlwaysValid(Interval(difference.interval.estimate, -np.inf, np.inf, LEVEL), 1.0)
    return AlwaysValid(difference.at(1 - (1 - LEVEL) / parts), min(1.0, difference.p_value * parts))


def _measures(tables: Tables, told: _Rows, asked: _Asked) -> tuple[Measure, ...]:
    """Of everybody who was sent something, by arm and by channel; none where no message is known."""
    if not told.decisions["sent"].any():
        return ()
    days, ids = asked.within_days, told.decisions["decision_id"]
    sent = recipients(tables, told.until, horizon_days=days, decisions=ids).execute()
    sent["arm"] = sent["user_id"].map(told.people.drop_duplicates("user_id").set_index("user_id")["arm"])
    sent = sent[sent["arm"].notna()]  # a message to somebody else than its decision is about tells nothing of it
    by = [name for name in ("arm", "channel") if len(set(sent[name])) > 1]
    return campaign_measures(sent.sort_values("user_id", ignore_index=True), horizon_days=days, by=by)


def _soon(people: pd.DataFrame, arms: Sequence[str]) -> dict[str, TimeToConversion]:
    return {
        arm: time_to_conversion(rows["order_days"].to_numpy(np.float64), rows["watched_days"].to_numpy(np.float64))
        for arm in arms
        for rows in [people[people["arm"] == arm]]
    }


def _missing(earned: Sequence[Comparison], no_offers: str) -> dict[str, str]:
    found = {}
    if not earned:
        found["earned"] = "There is no other arm to hold it against."
    if no_offers:
        found["offers"] = f"Left out: {no_offers}."
    return found


def _cost_of_sending(told: _Rows, costs: Mapping[str, float]) -> str:
    """Whether it is in the profit."""
    setting = "(setting contact_costs of [offers], by channel)"
    if not any(costs.values()):
        return f"Sending is taken to cost nothing, as nobody told what it costs {setting}."
    if told.metrics[0].outcome != "profit":
        return f"What sending cost is in no number: {told.metrics[0].told} decide, not profit."
    currency = told.units["profit per person"].currency
    each = [f"{costs[channel]:g} {currency} by {channel}" for channel in sorted(set(told.sent["channel"]) & set(costs))]
    free = sorted(set(told.sent["channel"]) - set(costs))
    nothing = f"; nobody told it for {', '.join(free)}, taken as 0" if free else ""
    return (
        f"What each message cost is taken off where it says after cost {setting}: "
        f"{', '.join(each) or 'none was sent'}{nothing}. Against other arms and over time it is not."
    )


def _notes(told: _Rows, experiment: Experiment, costs: Mapping[str, float], *, running: bool) -> list[str]:
    notes, first = [LIMIT, _cost_of_sending(told, costs)], told.metrics[0].outcome
    if not told.alone or experiment.arms[0] != HOLDOUT:
        against = f"{HOLDOUT}, {SHOWN_OLDEST}" if experiment.arms[0] == HOLDOUT else experiment.arms[0]
        notes.append(f"Nobody was left alone: the arms are held against {against}, not against nothing.")
    if first in ("revenue", "orders"):
        notes.append("The tables tell no costs of items, so what decides is not what is earned.")
    if running:
        notes.append(
            "Whatever people did since their first decision counts, so that who was decided for more often does not "
            "count more. The verdict holds however often one looks."
        )
    else:
        notes.append(
            "People stay in their arm from campaign to campaign, so that what earlier ones did to them is in it too. "
            "What was known before is what was known before anything was decided about them."
        )
    if len(experiment.rows) > MOST_LEARNT:
        notes.append(f"Who and how many are from {MOST_LEARNT:,} people drawn at random.")
    return notes
