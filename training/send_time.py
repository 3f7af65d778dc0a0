"""Train the send-time model, and measure what its hours would have gained on later messages that went out at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import mlflow
import numpy as np
import pandas as pd

from data.errors import DataError
from data.progress import timed
from data.workspace import Workspace
from evaluation.intervals import Interval, bootstrap, mean_of
from features.hours import SETTLED_DAYS, habits
from features.snapshots import span
from models.timing import HOURS, Engagement, Timing, choose
from training import cards
from training.examples import write_timing_examples
from training.results import Comparison, Judged, TrainingResult
from training.tracking import child_run, log_comparison, training

NAME = "send-time"
METRIC = "open_rate"
ACTIVITY_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How much hours in the shop count, chosen on the last messages of each person."""
HELD_OUT = 0.25
"""So many: a single one tells the weights hardly apart."""
JUDGED_DAYS, JUDGED_SHARE = 42, 0.25
"""The newest messages are judged on: so many days, of a short history at most this share."""
MAX_EXPLAINED = 0.05
"""Hours of which the person or the campaign explains more were not drawn at random."""
MIN_HOURS = 3
SINGLE_HOUR, RANDOM_HOURS = "best single hour", "random hours"


class Card(cards.Card):
    """Of a send-time version: just what every card says."""

    retrain = NAME


@dataclass(frozen=True, eq=False)
class SendRows:
    """Messages before a test cutoff, and those after it.

    Attributes:
        test: The cutoff.
        end: Just after the last row.
        told: What was known of those who got a later message, row by row.
        known: Messages known at the cutoff, of everybody, as `features.hours.Habits` has them.
        later: Messages after it whose opens can be seen, in the same columns and with `person`, the row in `told`.
        everything: What is known at the end, to refit on.
    """

    test: datetime
    end: datetime
    told: Engagement
    known: Engagement
    later: pd.DataFrame
    everything: Engagement


def train_send_time(workspace: Workspace, *, seed: int | None = None) -> TrainingResult:
    """Fit on earlier messages, judge the chosen hours on later ones, refit on all and register.

    Raises:
        DataError: no messages with opens, too few, or a history too short to judge on.
    """
    seed = workspace.settings.training.seed if seed is None else seed
    rows = send_rows(workspace)
    params = {"test_cutoff": f"{rows.test:%Y-%m-%d}", "judged_messages": len(rows.later)}
    with training(workspace, NAME, seed=seed, params=params) as run:
        with timed("fitting and judging the hours"):
            model = fitted(rows.known, seed=seed)
            test = compared(workspace, {Timing.name: model}, rows)
        for row in test.rows:
            child_run(row.name, params=model.params if row.name == Timing.name else {}, metrics=row.metrics)
        log_comparison(test)
        with timed("refitting the hours on all messages"):
            final = Timing(**model.params).fit(rows.everything, seed=seed)
            final.save(run.folder)
            Card(seed, rows.end, JUDGED_DAYS).save(run.folder)
            write_timing_examples(final, run.folder)
        mlflow.log_params(final.params)
        return run.challenger(
            test,
            chosen=Timing.name,
            pyfunc="send_time.py",
            packages=("mlflow", "numpy", "pandas", "scipy"),
        )


def fitted(told: Engagement, *, seed: int) -> Timing:
    """A model whose `activity_weight` foretells the last quarter of each person's messages best.

    Args:
        told: What people did, the messages of each in time order.
        seed: Of the fits.
    """
    later = _ranks_from_the_end(told.person) < np.ceil(HELD_OUT * np.bincount(told.person))[told.person]
    before, after = told.only(~later), told.only(later)
    scores = {}
    for weight in ACTIVITY_WEIGHTS if told.active.any() else (0.0,):
        scores[weight] = Timing(activity_weight=weight).fit(before, seed=seed).log_likelihood(before, after).mean()
    return Timing(activity_weight=max(scores, key=lambda weight: scores[weight])).fit(told, seed=seed)


def _ranks_from_the_end(code: np.ndarray) -> np.ndarray:
    """How many rows of the same code come after each row, (n,)."""
    return pd.Series(code).groupby(code).cumcount(ascending=False).to_numpy()


def send_rows(workspace: Workspace) -> SendRows:
    """The messages of a workspace, split by time.

    Raises:
        DataError: no messages with opens, or none after the test cutoff.
    """
    tables = workspace.checked
    end = pd.Timestamp(span(tables).end)
    everything = habits(tables.as_of(end.to_pydatetime()), end.to_pydatetime())
    sent = everything.answers
    if sent.empty:
        raise DataError("there are no messages older than a few days; `attune train send-time` learns from those.")
    days = (end - sent["at"].min()) / pd.Timedelta(days=1)
    test = (end - pd.Timedelta(days=SETTLED_DAYS + min(JUDGED_DAYS, JUDGED_SHARE * days))).floor("D")
    before = habits(tables.as_of(test.to_pydatetime()), test.to_pydatetime())
    earlier, visits = before.answers, before.active
    later = sent[(sent["at"] >= test) & ~sent["by_click"]].reset_index(drop=True)
    if later.empty or earlier.empty:
        raise DataError(
            f"messages from {sent['at'].min():%Y-%m-%d} to {sent['at'].max():%Y-%m-%d} cannot teach and judge hours: "
            f"{len(earlier)} were known by {test:%Y-%m-%d}, and of {len(later)} sent since the opens can be seen (a "
            "mail program that opens by itself hides them). Bring a longer history, or messages on other channels."
        )
    channels = sent["channel"].value_counts().sort_index().sort_values(ascending=False, kind="stable").index
    asked = pd.Index(later["user_id"].unique())
    later["person"] = asked.get_indexer(later["user_id"])

    def engagement(users: pd.Index, frame: pd.DataFrame, active: pd.DataFrame) -> Engagement:
        return Engagement.from_frames(users, frame, active, channels=list(channels))

    return SendRows(
        test=test.to_pydatetime(),
        end=end.to_pydatetime(),
        told=engagement(asked, earlier, visits),
        known=engagement(pd.Index(earlier["user_id"].unique()), earlier, visits),
        later=later.assign(code=pd.Index(channels).get_indexer(later["channel"])),
        everything=engagement(pd.Index(sent["user_id"].unique()), sent, everything.active),
    )


def compared(workspace: Workspace, models: Mapping[str, Timing], rows: SendRows) -> Comparison:
    """The hours that models choose, against one hour for everybody and random hours, on the same later messages.

    What a rule's hours would have earned is the doubly robust estimate (Dudik, Langford, Li 2011, eq. 2): the first
    model's expected open rate at the hour chosen, corrected where a message happened to go out in that hour. It holds
    only if the hours were random; where they were not, every figure is NaN and a note says why.
    """
    first = next(iter(models.values()))
    later, allowed = rows.later, first.hours
    why = why_not_random(later, allowed)
    expected = np.stack([first.score(rows.told, channel=name).rate for name in first.channels])
    q = expected[later["code"], later["person"]]  # (m, 24)
    hour = later["hour"].to_numpy()
    sent_share = np.bincount(hour, minlength=HOURS) / len(hour)
    gain = np.zeros_like(q)  # what a message adds to the estimate of a rule that sends it at each hour
    seen = np.arange(len(hour))
    gain[seen, hour] = (later["answered"] - q[seen, hour]) / sent_share[hour]
    value = q + gain  # (m, 24)
    evenly = allowed / allowed.sum()
    single = int(np.where(allowed, _hourly_rate(rows.known), -1).argmax())
    policies: dict[str, np.ndarray] = {}
    for name, model in models.items():
        hours = np.stack(
            [choose(model.score(rows.told, channel=one).rate, allowed=allowed).hour for one in model.channels]
        )
        policies[name] = value[seen, hours[later["code"], later["person"]]]
    policies[SINGLE_HOUR], policies[RANDOM_HOURS] = value[:, single], value @ evenly
    person, resamples = later["person"].to_numpy(), workspace.settings.training.bootstrap
    about = policies[next(iter(models))]

    def measured(values: np.ndarray) -> Interval:
        if why:
            return Interval.around(np.nan)
        return bootstrap(mean_of(values), len(values), groups=person, resamples=resamples)

    judged = tuple(
        Judged(
            name,
            f"timing {models[name].params}" if name in models else name,
            name not in models,
            {METRIC: measured(values)},
            None if values is about else measured(about - values),
        )
        for name, values in policies.items()
    )
    notes = [f"opens of {len(later):,} messages from {rows.test:%Y-%m-%d}, had they gone out at the hours chosen"]
    notes += [f"what timing gains cannot be told: {why}"] if why else [f"the single hour is {single}:00 local time"]
    return Comparison(NAME, METRIC, len(rows.told.active), judged, tuple(notes))


def why_not_random(sent: pd.DataFrame, allowed: np.ndarray) -> str:
    """Why the hours of messages were not drawn at random; empty if nothing speaks against it.

    Random hours are many, and neither who gets a message nor the campaign tells its hour: of the hour's sine and
    cosine neither explains more than 5 % (omega squared, Hays 1963).

    Args:
        sent: user_id, campaign_id, channel, at, hour.
        allowed: Hours known well enough to be proposed, bool (24,).
    """
    if allowed.sum() < MIN_HOURS:
        return f"messages go out in {int(allowed.sum())} hours of the day only. Send some at random hours."
    day = sent["channel"] + sent["at"].dt.strftime(" %Y-%m-%d")
    for what, group in (("person", sent["user_id"]), ("campaign", sent["campaign_id"].fillna(day))):
        share = _explained(sent["hour"].to_numpy(), group.astype(str).to_numpy())
        if not share <= MAX_EXPLAINED:
            told = "it cannot be seen how far" if np.isnan(share) else f"{share:.0%} of it"
            return f"the hour was not random: it hangs on the {what} ({told}). Send some at random hours."
    return ""


def _explained(hour: np.ndarray, group: np.ndarray) -> float:
    """Share of the variance of the hour's sine and cosine that lies between groups; NaN without repeats."""
    _, code, size = np.unique(group, return_inverse=True, return_counts=True)
    angle = 2 * np.pi * hour / HOURS
    z = np.column_stack([np.sin(angle), np.cos(angle)])
    n, k = len(z), len(size)
    if n - k < 30:
        return float("nan")
    mean = np.column_stack([np.bincount(code, weights=column) for column in z.T]) / size[:, None]
    within, total = ((z - mean[code]) ** 2).sum() / (n - k), ((z - z.mean(axis=0)) ** 2).sum() / (n - 1)
    return float(1 - within / total) if total > 0 else float("nan")


def _hourly_rate(told: Engagement) -> np.ndarray:
    """Share answered of the messages of each hour, (24,)."""
    sent = np.bincount(told.hour, minlength=HOURS)
    return np.asarray(np.bincount(told.hour, weights=told.answered, minlength=HOURS) / np.maximum(sent, 1))
