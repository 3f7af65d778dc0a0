"""One plain sentence of what to do, whose words follow the interval and which a failed check replaces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtri

from evaluation.experiments.checks import Check
from evaluation.experiments.planning import detectable
from evaluation.intervals import Interval

PATIENCE = 4
"""Nobody is asked to test on so many times as many people as were tested; the data cannot tell, then."""

LARGE = 0.1
"""A person with more than this share of an outcome's sum is named."""

Kind = Literal["act", "do not", "keep testing", "cannot tell", "not to be trusted"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do.

    Attributes:
        kind: In a word: `act` and `do not` say that the data decided.
        sentence: In a plain sentence.
        interval: What it follows.
        more_people: How many more it would take to decide, both arms together; 0 if decided, None if it cannot be said.
        more_days: The same in days; None if it was not told how many people come a day.
    """

    kind: Kind
    sentence: str
    interval: Interval
    more_people: int | None = 0
    more_days: float | None = 0.0

    @property
    def decided(self) -> bool:
        """Whether the data said what to do."""
        return self.kind in ("act", "do not")


def decide(
    interval: Interval,
    *,
    people: int,
    action: str = "the treatment",
    effect: str = "the effect",
    what: str = "the outcome per person",
    show: Callable[[float], str] = "{:.3g}".format,
    worth: float = 0.0,
    lower_is_better: bool = False,
    enough: bool = True,
    largest_share: float = 0.0,
    people_per_day: float | None = None,
    checks: Sequence[Check] = (),
) -> Verdict:
    """What to do about an action whose effect has this interval.

    Act if the whole interval lies above `worth`; do not if it lies below. Otherwise the people still needed are those
    with whom the effect seen, or the smallest one worth having, would be found in four of five experiments; above four
    times those tested so far, the data cannot tell.

    Args:
        interval: Of the effect, in the outcome's unit per person.
        people: Tested so far, both arms together.
        action: What would be done, as in "send Mens".
        effect: How its effect is called, as in "the effect of Mens".
        what: The outcome, as in "revenue per recipient".
        show: Writes an amount of it.
        worth: The smallest effect worth acting on, such as the cost of a contact.
        lower_is_better: As of unsubscribes.
        enough: Whether enough people carry the outcome (`Difference.enough`).
        largest_share: Of the outcome's sum, that of the one person who has most.
        people_per_day: How many come.
        checks: One that failed replaces the verdict.

    Example:
        >>> decide(Interval(0.5, 0.2, 0.8, 0.95), people=1000, action="send", what="revenue per recipient").sentence
        'Act: send. It raises revenue per recipient by 0.5, and by 0.2 to 0.8 with 95 % confidence.'
        >>> decide(Interval(0.3, -0.1, 0.7, 0.95), people=1000).sentence
        'Keep testing: the effect on the outcome per person lies between -0.1 and 0.7, so it may be none. If it is as
        large as it looks, about 2,600 more people in both arms together would show it.'
    """
    if failed := [check for check in checks if check.status == "failed"]:
        more = len(failed) - 1
        others = f" (and {more} other check{'s' * (more > 1)} failed)" if more else ""
        sentence = f"Not to be trusted{others}: {failed[0].finding} {failed[0].remedy}"
        return Verdict("not to be trusted", sentence, interval, None, None)
    if not enough or np.isnan(interval.low):
        alone = f", and one alone has {100 * largest_share:.0f} % of it all" if largest_share > LARGE else ""
        behind = what if effect == "the effect" else f"{effect} on {what}"
        few = f"too few people stand behind {behind}{alone}. Run it on more people"
        alike = f"{what} is the same for everybody" + (", or an arm has one person" if interval.estimate else "")
        reason = few if np.isfinite(interval.low) else alike
        return Verdict("cannot tell", f"The data cannot tell: {reason}.", interval, None, None)
    low, high, best = interval.low, interval.high, interval.estimate
    if lower_is_better:
        low, high, best = -high, -low, -best
    sure = f"{100 * interval.level:.3g} % confidence"
    ends = f"{show(interval.low)} to {show(interval.high)} with {sure}"
    moved = "raises" if interval.estimate > 0 else "lowers"
    sizes = sorted(end if interval.estimate > 0 else -end for end in (interval.low, interval.high))
    by = f"{show(abs(interval.estimate))}, and by {show(sizes[0])} to {show(sizes[1])} with {sure}"
    if low > worth:
        return Verdict("act", f"Act: {action}. It {moved} {what} by {by}.", interval)
    if high < worth:
        if high < 0:
            return Verdict("do not", f"Do not: {action}. It {moved} {what} by {by}.", interval)
        reason = f"Its effect on {what} is {ends}, below the {show(worth)} that would pay"
        return Verdict("do not", f"Do not: {action}. {reason}.", interval)
    so_far = f"{effect} on {what} lies between {show(interval.low)} and {show(interval.high)}"
    so_far += ", so it may be none" if worth == 0 else f", and {show(worth)} would pay"
    return _undecided(interval, so_far, abs(best - worth), people, people_per_day)


def _undecided(interval: Interval, so_far: str, gap: float, people: int, people_per_day: float | None) -> Verdict:
    more = _more_people(interval, gap, people)
    if more is None:
        hardly = f"Even {PATIENCE} times as many people would hardly decide it: choose what is less work."
        sentence = f"The data cannot tell: {so_far}. {hardly}"
        return Verdict("cannot tell", sentence, interval, None, None)
    days = more / people_per_day if people_per_day else None
    longer = f" ({_rounded(days)} more days)" if days is not None else ""
    needed = (
        f"If it is as large as it looks, about {_rounded(more)} more people in both arms together{longer} would show it"
    )
    return Verdict("keep testing", f"Keep testing: {so_far}. {needed}.", interval, more, days)


def _more_people(interval: Interval, gap: float, people: int) -> int | None:
    """People still to be asked so that an effect `gap` away is found; None above what patience allows."""
    half = (interval.high - interval.low) / 2
    if not (np.isfinite(half) and gap > 0):
        return None
    now = detectable(half / float(ndtri((1 + interval.level) / 2)), level=interval.level)
    more = people * ((now / gap) ** 2 - 1)
    return max(1, int(np.ceil(more))) if more <= (PATIENCE - 1) * people else None


def _rounded(number: float) -> str:
    """To two digits: more would say that it is known better than it is."""
    digits = int(np.floor(np.log10(max(number, 1)))) - 1
    return f"{round(number, -digits) if digits > 0 else np.ceil(number):,.0f}"
