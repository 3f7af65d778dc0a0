"""When to write to a person, and on which channel: how readily they open at each hour, from their own few answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import betaincinv, betaln, expit, logsumexp, softmax

from data.chance import some_rows
from data.errors import DataError
from models import saving
from models.fitted import Fitted

HOURS = 24
LEVELS = np.linspace(-5, 4, 13)
"""How readily kinds of people open at all: log-odds beside their channel's."""
MAX_PEOPLE = 10_000
"""Learnt from at the most, a seeded draw: the few parameters need no more."""
BLOCK_PEOPLE = 4_000
"""Scored at once: bounds memory."""
MAX_ROUNDS, ENOUGH = 100, 1e-4
"""Of EM, and the gain in log likelihood a person below which it stops."""
MIN_HOUR_SHARE = 0.01
"""An hour with a smaller share of the messages is not known well enough to be proposed."""
MIN_MESSAGES = 50
MESSAGE_LISTS = ("channel", "hour", "answered")
OF_MESSAGES = ("person", "channel", "hour", "answered", "by_click")


@dataclass(frozen=True, eq=False)
class Engagement:
    """What n people did, by their own local hour. No ids: row i is whoever the caller says.

    Attributes:
        n: People.
        channels: Names.
        person: Row of each message, int (m,).
        channel: Code of each message, int (m,).
        hour: In which it was sent, 0 to 23, int (m,).
        answered: Whether the person opened it or, where `by_click`, clicked it, bool (m,).
        by_click: Whether a mail program hides the opens, so that only a click is seen, bool (m,).
        active: How many hours of the calendar each person was seen in the shop, by hour of the day, (n, 24).
    """

    n: int
    channels: tuple[str, ...]
    person: np.ndarray
    channel: np.ndarray
    hour: np.ndarray
    answered: np.ndarray
    by_click: np.ndarray
    active: np.ndarray

    @classmethod
    def from_frames(
        cls, users: Sequence[str], answers: pd.DataFrame, active: pd.DataFrame, *, channels: Sequence[str]
    ) -> Self:
        """From tables with a `user_id`; rows of other users or channels are left out.

        Args:
            users: Ids in the order of the rows asked for.
            answers: A row a message: user_id, channel, hour, answered, by_click.
            active: A row for each hour in which they were in the shop: user_id, hour.
            channels: Names in the order of their codes.

        Example:
            >>> answers = pd.DataFrame({"user_id": ["ann"], "channel": ["email"], "hour": [20],
            ...                         "answered": [True], "by_click": [False]})
            >>> active = pd.DataFrame({"user_id": ["bob", "bob"], "hour": [8, 8]})
            >>> found = Engagement.from_frames(["ann", "bob"], answers, active, channels=["email"])
            >>> found.person.tolist(), found.active[1, 8].item()
            ([0], 2.0)
        """
        index = pd.Index(users)
        person, channel = index.get_indexer(answers["user_id"]), pd.Index(channels).get_indexer(answers["channel"])
        kept = (person >= 0) & (channel >= 0)
        row = index.get_indexer(active["user_id"])
        times = np.zeros((len(index), HOURS))
        np.add.at(times, (row[row >= 0], active["hour"].to_numpy(dtype=np.int64)[row >= 0]), 1)
        return cls(
            n=len(index),
            channels=tuple(channels),
            person=person[kept],
            channel=channel[kept],
            hour=answers["hour"].to_numpy(dtype=np.int64)[kept],
            answered=answers["answered"].to_numpy(dtype=bool)[kept],
            by_click=answers["by_click"].to_numpy(dtype=bool)[kept],
            active=times,
        )

    @classmethod
    def from_lists(cls, channels: Sequence[str], people: Sequence[Mapping[str, Any]]) -> Self:
        """From lists: `channel`, `hour` and `answered` of messages, `active` hours; none need be there.

        Example:
            >>> own = {"channel": ["email"], "hour": [9], "answered": [True]}
            >>> Engagement.from_lists(["email"], [{}, own]).person.tolist()
            [1]
        """
        messages = [
            (str(row), channel, int(hour), bool(answered), False)
            for row, person in enumerate(people)
            for channel, hour, answered in zip(*(person.get(name, ()) for name in MESSAGE_LISTS), strict=True)
        ]
        active = [(str(row), int(hour)) for row, person in enumerate(people) for hour in person.get("active", ())]
        return cls.from_frames(
            [str(row) for row in range(len(people))],
            pd.DataFrame(messages, columns=["user_id", *MESSAGE_LISTS, "by_click"]),
            pd.DataFrame(active, columns=["user_id", "hour"]),
            channels=channels,
        )

    @cached_property
    def cells(self) -> sparse.csr_matrix:
        """How often each person met each kind of message: (n, kinds * 24 * 2), by `_cell`."""
        kinds = 2 * len(self.channels)
        column = ((2 * self.channel + self.by_click) * HOURS + self.hour) * 2 + self.answered
        shape = (self.n, kinds * HOURS * 2)
        return sparse.csr_matrix((np.ones(len(column)), (self.person, column)), shape)

    def only(self, messages: np.ndarray) -> Self:
        """The same people with some of their messages, bool (m,)."""
        kept = {name: getattr(self, name)[messages] for name in OF_MESSAGES}
        return type(self)(n=self.n, channels=self.channels, active=self.active, **kept)

    def drawn(self, most: int, seed: int) -> Self:
        """At most so many of the people who got a message, drawn with a seed; rows are renumbered."""
        told = np.unique(self.person)
        told = told[some_rows(len(told), most, seed=seed)]
        new = np.full(self.n, -1)
        new[told] = np.arange(len(told))
        kept = self.only(new[self.person] >= 0)
        return replace(kept, n=len(told), person=new[kept.person], active=self.active[told])


@dataclass(frozen=True, eq=False)
class Rates:
    """Expected share of messages opened, with an interval, for n people and k hours or channels.

    Attributes:
        rate: Posterior mean, (n, k).
        low: Lower end, (n, k).
        high: Upper end, (n, k).
    """

    rate: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, eq=False)
class Choice:
    """The hour chosen for n people.

    Attributes:
        hour: Local, 0 to 23, (n,).
        probability: The chance with which it was chosen, to be logged with the decision, (n,).
    """

    hour: np.ndarray
    probability: np.ndarray


@dataclass(frozen=True, eq=False)
class Plan:
    """When and where to write to n people.

    Attributes:
        best_hour: The allowed local hour at which a message is opened most readily, 0 to 23, (n,).
        channel: Code of the channel on which they open most readily, of those that reach them, (n,); -1 = none does.
        open_rate: Expected share of messages opened at the best hour on that channel, (n,); NaN where none reaches.
        low: Lower end of its interval, (n,).
        high: Upper end, (n,).
        allowed: Hours at which they may be written to, bool (n, 24).
        choice: The hour to send at, drawn with its probability.
        own: Whether anything is known of them: of others the plan is that for everybody, (n,).
    """

    best_hour: np.ndarray
    channel: np.ndarray
    open_rate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    allowed: np.ndarray
    choice: Choice
    own: np.ndarray


class Timing(Fitted):
    """Empirical Bayes over kinds of people: each has an hour of their own (or none) and opens more or less readily.

    A person of hour mu and level l opens a message of kind k (its channel, and whether opens or only clicks are seen)
    sent at hour h with log-odds

        eta = a_k + l + A * (b(h - mu) - mean of b),    b(d) = exp(kappa * (cos d - 1)),

    a von Mises bump; who has no hour has A = 0. How common each hour and each level are is learnt without assuming
    a shape (Kiefer, Wolfowitz 1956; Laird 1978), with a_k, A and kappa, by EM over everybody. A person is folded in by
    Bayes' rule: with no history they get what is best for everybody, with much their own. Being in the shop is weaker
    evidence of the hour: its likelihood, a bump around mu mixed with the shop's usual day, counts to the power of
    `activity_weight`. On the channels, opens are beta-binomial: each person's rate is shrunk to the channel's.

    Args:
        activity_weight: Of an hour in the shop; 0 = messages alone. How much is right is for later messages to say.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> person, hour = np.repeat(np.arange(200), 20), rng.integers(7, 22, 4000)
        >>> own = np.where(person % 2, 9, 20)
        >>> told = Engagement(n=200, channels=("email",), person=person, channel=np.zeros(4000, int), hour=hour,
        ...                   answered=rng.random(4000) < np.where(abs(hour - own) < 3, 0.7, 0.1),
        ...                   by_click=np.zeros(4000, bool), active=np.zeros((200, 24)))
        >>> model = Timing().fit(told)
        >>> best = choose(model.score(told).rate, allowed=model.hours).hour
        >>> bool((abs(best - np.where(np.arange(200) % 2, 9, 20)) <= 2).mean() > 0.9)
        True
    """

    name = "timing"
    _answers_from = "channels"

    def __init__(self, *, activity_weight: float = 0.0) -> None:
        self.activity_weight = activity_weight

    @property
    def params(self) -> dict[str, float]:
        """The hyperparameters by name."""
        return {"activity_weight": self.activity_weight}

    def fit(self, told: Engagement, *, seed: int = 0) -> Self:
        """Learn how common the kinds of people are, and how strongly the hour moves them.

        Args:
            told: What people did.
            seed: Of the draw where there are many people.

        Raises:
            DataError: too few messages, or all of one answer.
        """
        if len(told.person) < MIN_MESSAGES or len(np.unique(told.answered)) < 2:
            raise DataError(
                f"timing needs at least {MIN_MESSAGES} messages, some opened and some not; found {len(told.person)}, "
                f"{int(told.answered.sum())} opened. Bring `messages` with `opened_at`."
            )
        self.channels = told.channels
        self.sent_share = np.bincount(told.hour, minlength=HOURS) / len(told.hour)
        self.beta = np.array([_beta_prior(told, channel) for channel in range(len(told.channels))])
        told = told.drawn(MAX_PEOPLE, seed)
        kind = 2 * told.channel + told.by_click
        sent = np.bincount(kind, minlength=2 * len(told.channels))
        opened = np.bincount(kind, weights=told.answered, minlength=len(sent))
        rate = (opened + told.answered.mean()) / (sent + 1)
        self.offset = np.log(rate / (1 - rate))
        self.strength, self.kappa = 1.0, 2.0
        self.hour_share = np.full(HOURS + 1, 1 / (HOURS + 1))
        self.level_share = softmax(-0.5 * LEVELS**2)
        self.usual_day = (told.active.sum(axis=0) + 1) / (told.active.sum() + HOURS)
        self.anytime, self.activity_kappa = 0.5, 2.0
        before = -np.inf
        for _ in range(MAX_ROUNDS):
            logits = self._logits(told)
            reached = float(logsumexp(logits.reshape(told.n, -1), axis=1).mean())
            self._maximise(told, softmax(logits, axis=(1, 2)))
            if reached - before < ENOUGH:
                break
            before = reached
        return self

    @property
    def hours(self) -> np.ndarray:
        """The hours that are known well enough to be proposed: messages were sent in them, bool (24,)."""
        self._check_fitted()
        return np.asarray(self.sent_share >= MIN_HOUR_SHARE)

    def score(self, told: Engagement, *, channel: str = "", level: float = 0.9) -> Rates:
        """Expected open rates of a message on a channel at each local hour, (n, 24).

        Args:
            told: What the people asked about did; its channels are those of the fit.
            channel: Its name; by default the first.
            level: Coverage of the interval, which is the posterior's: it holds if the model does.

        Raises:
            NotFittedError: `fit` or `load` comes first.
            DataError: no such channel, or other channels than those of the fit.
        """
        self._check_known(told)
        if channel and channel not in self.channels:
            raise DataError(f"timing knows no channel {channel!r}; it learnt of {', '.join(self.channels)}.")
        kind = 2 * (self.channels.index(channel) if channel else 0)
        chance = expit(self._log_odds()[kind]).reshape(HOURS, -1)  # (24, kinds of people)
        rate, low, high = (np.empty((told.n, HOURS)) for _ in range(3))
        for rows, posterior in self._posteriors(told):
            rate[rows] = posterior @ chance.T
            for hour in range(HOURS):
                low[rows, hour], high[rows, hour] = _interval(posterior, chance[hour], rate[rows, hour], level)
        return Rates(rate, low, high)

    def plan(
        self,
        told: Engagement,
        *,
        wanted: np.ndarray,
        reachable: np.ndarray,
        explore: float = 0.0,
        draw: np.ndarray | None = None,
        level: float = 0.9,
    ) -> Plan:
        """The hour and the channel for each person, and what to expect of them.

        Args:
            told: What the people asked about did; its channels are those of the fit.
            wanted: Hours that they chose themselves, bool (n, 24): no others are allowed. Who chose none may be written
                to in all hours that are known well enough (`hours`).
            reachable: Channels that reach them, bool (n, channels).
            explore: Share of hours that are drawn evenly from the allowed ones.
            draw: What is drawn with, a number in [0, 1) each, (n,).
            level: Coverage of the interval.

        Raises:
            NotFittedError: `fit` or `load` comes first.
            DataError: other channels than those of the fit.
        """
        allowed = np.where(wanted.any(axis=1, keepdims=True), wanted, self.hours)
        by_channel = np.where(reachable, self.score_channels(told).rate, -np.inf)
        channel = np.where(reachable.any(axis=1), by_channel.argmax(axis=1), -1)
        chance = expit(self._log_odds()[::2]).reshape(len(self.channels), HOURS, -1)  # of an open, where it can be seen
        rate, best = np.empty((told.n, HOURS)), np.empty(told.n, np.int64)
        low, high = np.empty(told.n), np.empty(told.n)
        for rows, posterior in self._posteriors(told):
            on = np.maximum(channel[rows], 0)
            for code in np.unique(on):
                rate[rows][on == code] = posterior[on == code] @ chance[code].T
            best[rows] = choose(rate[rows], allowed=allowed[rows]).hour
            for code, hour in np.unique(np.stack([on, best[rows]]), axis=1).T:
                these = np.flatnonzero((on == code) & (best[rows] == hour))
                expected = rate[rows][these, hour]
                ends = _interval(posterior[these], chance[code, hour], expected, level)
                low[rows.start + these], high[rows.start + these] = ends
        open_rate = rate[np.arange(told.n), best]
        open_rate, low, high = (np.where(channel < 0, np.nan, values) for values in (open_rate, low, high))
        choice = choose(rate, allowed=allowed, explore=explore, draw=draw)
        return Plan(best, channel, open_rate, low, high, allowed, choice, self._own(told))

    def log_likelihood(self, told: Engagement, later: Engagement) -> np.ndarray:
        """Log probability of each later answer, given what the same people did before, (m,).

        A proper score of the forecast (Good 1952): higher is better.
        """
        self._check_known(told)
        no = -np.logaddexp(0, self._log_odds()).reshape(2 * len(self.channels), HOURS, -1)
        kind = 2 * later.channel + later.by_click
        found = np.empty(len(later.person))
        for rows, posterior in self._posteriors(told):
            mine = np.flatnonzero((later.person >= rows.start) & (later.person < rows.stop))
            p = np.einsum(
                "ng,ng->n", posterior[later.person[mine] - rows.start], np.exp(no[kind[mine], later.hour[mine]])
            )
            found[mine] = np.log(np.clip(np.where(later.answered[mine], 1 - p, p), 1e-12, 1))
        return found

    def score_channels(self, told: Engagement, *, level: float = 0.9) -> Rates:
        """Expected open rates on each channel, (n, channels): beta-binomial posterior means and quantiles.

        Messages whose opens a mail program hides count neither way.
        """
        self._check_known(told)
        opened, unopened = _open_counts(told)
        a, b = self.beta[:, 0] + opened, self.beta[:, 1] + unopened
        return Rates(a / (a + b), betaincinv(a, b, (1 - level) / 2), betaincinv(a, b, (1 + level) / 2))

    def save(self, folder: Path) -> None:
        """Write `model.json`; the folder appears whole or not at all."""
        self._check_fitted()
        about = {
            "name": self.name,
            "params": self.params,
            "channels": list(self.channels),
            **{name: getattr(self, name) for name in NUMBERS},
            **{name: getattr(self, name).tolist() for name in ARRAYS},
        }
        saving.write(folder, about)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelFileError: the file is missing, cut short or changed.
        """
        with saving.reading(folder) as about:
            model = cls(**about["params"])
            model.channels = tuple(about["channels"])
            for name in NUMBERS:
                setattr(model, name, float(about[name]))
            for name, shape in ARRAYS.items():
                array = np.asarray(about[name], dtype=np.float64)
                if array.ndim != len(shape) or any(s and s != k for s, k in zip(shape, array.shape, strict=True)):
                    raise ValueError(f"{name} has shape {array.shape}")
                setattr(model, name, array)
        return model

    def _bump(self, kappa: float) -> np.ndarray:
        """b(h - mu) by hour and kind of person, (24, 25); none for those without an hour."""
        away = 2 * np.pi * (np.arange(HOURS)[:, None] - np.arange(HOURS)) / HOURS
        return np.column_stack([np.exp(kappa * (np.cos(away) - 1)), np.zeros(HOURS)])

    def _log_odds(self) -> np.ndarray:
        """Log-odds eta by kind of message, hour, own hour and level, (kinds, 24, 25, levels)."""
        b = self._bump(self.kappa)
        own = self.strength * (b - b.mean(axis=0))
        return np.asarray(self.offset[:, None, None, None] + own[:, :, None] + LEVELS)

    def _activity(self) -> np.ndarray:
        """Log chance that an hour in the shop is hour h, by h and own hour, (24, 25)."""
        return np.log(_days(self._bump(self.activity_kappa), self.usual_day, self.anytime))

    def _logits(self, told: Engagement) -> np.ndarray:
        """Log of prior times likelihood of each kind of person, (n, 25, levels)."""
        eta = self._log_odds().reshape(len(self.offset) * HOURS, -1)
        table = np.stack([-np.logaddexp(0, eta), -np.logaddexp(0, -eta)], axis=1).reshape(2 * len(eta), -1)
        prior = np.log(self.hour_share)[:, None] + np.log(self.level_share)
        seen = self.activity_weight * (told.active @ self._activity())
        return np.asarray((told.cells @ table).reshape(told.n, *prior.shape) + seen[:, :, None] + prior)

    def _posteriors(self, told: Engagement) -> Iterator[tuple[slice, np.ndarray]]:
        """Chance of each kind of person, (rows, 25 * levels), block by block."""
        cells = told.cells
        for start in range(0, told.n, BLOCK_PEOPLE):
            rows = slice(start, min(start + BLOCK_PEOPLE, told.n))
            block = _Block(rows.stop - rows.start, cells[rows], told.active[rows])
            yield rows, softmax(self._logits(block).reshape(block.n, -1), axis=1)  # type: ignore[arg-type]

    def _maximise(self, told: Engagement, posterior: np.ndarray) -> None:
        """One M-step: the parameters that explain best, the kinds of people being as likely as `posterior`."""
        by_hour, by_level = posterior.sum(axis=(0, 2)) + 1, posterior.sum(axis=(0, 1)) + 1
        self.hour_share, self.level_share = by_hour / by_hour.sum(), by_level / by_level.sum()
        kinds = len(self.offset)
        expected = (told.cells.T @ posterior.reshape(told.n, -1)).reshape(kinds, HOURS, 2, HOURS + 1, len(LEVELS))
        n, y = expected.sum(axis=2), expected[:, :, 1]

        def messages(theta: np.ndarray) -> tuple[float, np.ndarray]:
            offset, A, kappa = theta[:kinds], theta[kinds], theta[kinds + 1]
            b = self._bump(kappa)
            slope = b * (np.cos(2 * np.pi * np.subtract.outer(np.arange(HOURS), np.arange(HOURS + 1)) / HOURS) - 1)
            own, own_slope = b - b.mean(axis=0), slope - slope.mean(axis=0)
            eta = offset[:, None, None, None] + A * own[:, :, None] + LEVELS
            left = n * expit(eta) - y
            by_cell = left.sum(axis=(0, 3))
            value = (n * np.logaddexp(0, eta) - y * eta).sum() + A**2 / 8  # a normal prior of deviation 2
            gradient = [*left.sum(axis=(1, 2, 3)), (by_cell * own).sum() + A / 4, A * (by_cell * own_slope).sum()]
            return value, np.array(gradient)

        start = np.array([*self.offset, self.strength, self.kappa])
        bounds = [(-12.0, 12.0)] * kinds + [(0.0, 10.0), (0.3, 12.0)]
        found = minimize(messages, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 10}).x
        self.offset, self.strength, self.kappa = found[:kinds], float(found[kinds]), float(found[kinds + 1])
        seen = told.active.T @ posterior.sum(axis=2)
        if seen.any():

            def activity(theta: np.ndarray) -> float:
                return -float((seen * np.log(_days(self._bump(theta[1]), self.usual_day, theta[0]))).sum())

            start = np.array([self.anytime, self.activity_kappa])
            bounds = [(0.01, 0.9), (0.3, 12)]  # at 1 visits would tell nothing, and never again
            found = minimize(activity, start, method="L-BFGS-B", bounds=bounds, options={"maxiter": 5}).x
            self.anytime, self.activity_kappa = float(found[0]), float(found[1])

    def _own(self, told: Engagement) -> np.ndarray:
        """Whether anything is known of a person, bool (n,)."""
        seen = np.bincount(told.person, minlength=told.n) > 0
        return np.asarray(seen | (told.active.any(axis=1) & (self.activity_weight > 0)))

    def _check_known(self, told: Engagement) -> None:
        self._check_fitted()
        if told.channels != self.channels:
            raise DataError(f"timing learnt of the channels {self.channels}, not of {told.channels}. Give it those.")


@dataclass(frozen=True, eq=False)
class _Block:
    """Some rows of an `Engagement`."""

    n: int
    cells: sparse.csr_matrix
    active: np.ndarray


def choose(rate: np.ndarray, *, allowed: np.ndarray, explore: float = 0.0, draw: np.ndarray | None = None) -> Choice:
    """The best allowed hour of each person; with chance `explore` any allowed one, so that timing can be measured.

    Args:
        rate: Expected open rates, (n, 24).
        allowed: Hours that may be chosen, bool (24,), or by person (n, 24), as quiet hours and preferences say.
        explore: Share of choices that are drawn evenly.
        draw: What is drawn with, a number in [0, 1) each, (n,); needed to explore.

    Raises:
        DataError: somebody may get nothing at any hour, or nothing to explore with.

    Example:
        >>> rate = np.tile(np.where(np.arange(24) == 20, 0.5, 0.1), (3, 1))
        >>> found = choose(rate, allowed=np.arange(24) >= 7, explore=0.17, draw=np.array([0.0, 0.02, 0.9]))
        >>> found.hour.tolist(), found.probability.round(2).tolist()
        ([7, 9, 20], [0.01, 0.01, 0.84])
    """
    allowed = np.broadcast_to(allowed, rate.shape)
    count = allowed.sum(axis=1)
    if (count == 0).any():
        raise DataError(f"{int((count == 0).sum())} people have no allowed hour; leave them out, or allow one.")
    best = hour = np.where(allowed, rate, -np.inf).argmax(axis=1)
    if explore:
        if draw is None:
            raise DataError(f"explore = {explore} needs a draw for each person; give `draw`.")
        nth = np.minimum(np.minimum(draw, explore) / explore * count, count - 1).astype(np.int64)  # allowed hour
        drawn = (allowed.cumsum(axis=1) > nth[:, None]).argmax(axis=1)
        hour = np.where(draw < explore, drawn, best)
    return Choice(hour, (1 - explore) * (hour == best) + explore / count)


NUMBERS = ("strength", "kappa", "anytime", "activity_kappa")
ARRAYS: dict[str, tuple[int, ...]] = {
    "offset": (0,), "hour_share": (HOURS + 1,), "level_share": (len(LEVELS),), "usual_day": (HOURS,),
    "sent_share": (HOURS,), "beta": (0, 2),
}  # fmt: skip
"""What a `Timing` learnt, and the shapes; 0 = as many as there are."""


def _days(bump: np.ndarray, usual_day: np.ndarray, anytime: float) -> np.ndarray:
    """Chance of each hour in the shop, by own hour, (24, 25): a bump mixed with the usual day; else the usual day."""
    total = bump.sum(axis=0)
    own = np.where(total > 0, bump / np.where(total > 0, total, 1), usual_day[:, None])
    return np.asarray(anytime * usual_day[:, None] + (1 - anytime) * own)


def _interval(
    posterior: np.ndarray, chance: np.ndarray, mean: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the posterior's interval of a chance that depends on the kind of person, (n,) each.

    Args:
        posterior: Of the kinds, (n, kinds).
        chance: Of each kind, (kinds,).
        mean: Of the posterior, (n,): a skewed one's may lie outside of its quantiles; the interval holds it.
        level: Coverage.
    """
    order = np.argsort(chance)
    mass = np.cumsum(posterior[:, order], axis=1)
    places = ((mass < q).sum(axis=1) for q in ((1 - level) / 2, (1 + level) / 2))
    low, high = (chance[order[np.minimum(place, len(order) - 1)]] for place in places)
    return np.minimum(low, mean), np.maximum(high, mean)


def _open_counts(told: Engagement) -> tuple[np.ndarray, np.ndarray]:
    """Messages opened and not, by person and channel, (n, channels) each."""
    shape = (told.n, len(told.channels))
    place = told.person * shape[1] + told.channel
    return tuple(  # type: ignore[return-value]
        np.bincount(place[~told.by_click & (told.answered == yes)], minlength=told.n * shape[1]).reshape(shape)
        for yes in (True, False)
    )


def _beta_prior(told: Engagement, channel: int) -> tuple[float, float]:
    """The beta distribution of people's open rates on a channel, by maximum likelihood (beta-binomial)."""
    opened, unopened = (counts[:, channel] for counts in _open_counts(told))
    pairs, times = np.unique(np.column_stack([opened, unopened]), axis=0, return_counts=True)
    mean = (opened.sum() + told.answered.mean()) / (opened.sum() + unopened.sum() + 1)

    def loss(theta: np.ndarray) -> float:
        a, b = np.exp(theta)
        likelihood = times @ (betaln(a + pairs[:, 0], b + pairs[:, 1]) - betaln(a, b))
        return -float(likelihood) / max(times.sum(), 1) + 1e-4 * float(((theta - start) ** 2).sum())

    start = np.log(np.array([2 * mean, 2 * (1 - mean)]))
    a, b = np.exp(minimize(loss, start, method="L-BFGS-B", bounds=[(-6, 6)] * 2).x)
    return float(a), float(b)
