"""How numbers are written for readers: in their unit, and as exactly as the data supports."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from evaluation.intervals import Interval

THOUSAND = 1000
TINY = 1e-12
"""What is smaller is zero but for rounding."""

Kind = Literal["share", "amount", "ratio", "money"]


@dataclass(frozen=True, slots=True)
class Unit:
    """How numbers of one outcome are written: as exactly as the data supports.

    Attributes:
        kind: A share of people, an amount, a ratio, or money.
        currency: Of money, written behind it; may be empty.
        beside: What stands in one row with it: all of it gets as many decimals as the finest, so that it adds up.
    """

    kind: Kind
    currency: str = ""
    beside: tuple[Interval, ...] = ()

    def row(self, *beside: Interval) -> Unit:
        """Of numbers that stand in one row.

        Example:
            >>> mean, change = Interval(7.6, 3.0, 12.2, 0.95), Interval(-0.5, -1.4, 0.4, 0.95)
            >>> Unit("money", "EUR").level(mean), Unit("money", "EUR").row(mean, change).level(mean)
            ('8 EUR', '7.6 EUR')
        """
        return replace(self, beside=beside)

    def level(self, i: Interval) -> str:
        """A value of an arm: `14.6 %`.

        Example:
            >>> Unit("share").level(Interval(0.14567, 0.142, 0.149, 0.95)), Unit("money", "EUR").level(
            ...     Interval(1234.5678, 1200.0, 1270.0, 0.95))
            ('14.6 %', '1,230 EUR')
        """
        factor, behind = (100.0, " %") if self.kind == "share" else (1.0, self._behind)
        return self._told(i.estimate * factor, self._places(i, factor)) + behind

    def change(self, i: Interval, *, times: float = 1.0) -> str:
        """A difference, with its sign: `+4.6 points`; of many people, as in "per 1,000", shares are counts: `+46`.

        Example:
            >>> found = Interval(0.04567, 0.04, 0.052, 0.95)
            >>> Unit("share").change(found), Unit("share").change(found, times=1000)
            ('+4.6 points', '+46')
        """
        factor = self._factor(times)
        return self._told(i.estimate * factor, self._places(i, factor), sign="+") + (
            self._behind if times == 1 else self._of_many
        )

    def ends(self, i: Interval, *, times: float = 1.0) -> str:
        """Between which it lies: `+4.0 to +5.2`; `not known` where nothing can be said."""
        if np.isnan([i.low, i.high]).any():
            return "not known"
        factor = self._factor(times)
        low, high = (self._told(end * factor, self._places(i, factor), sign="+") for end in (i.low, i.high))
        return f"{low} to {high}"

    def amount(self, x: float, width: float) -> str:
        """A difference without a plus sign, as exactly as an interval of this width supports.

        Example:
            >>> Unit("money", "EUR").amount(2.071, 5.3), Unit("share").amount(0.0204, 0.01)
            ('2.1 EUR', '2.0 points')
        """
        factor = self._factor(1)
        places = _places(Interval.around(0.0, width / 2), factor)
        places = _seen(x * factor, places)
        return self._told(x * factor, places) + self._behind

    def range(self, i: Interval) -> str:
        """Between which a value of an arm lies: `14.2 to 14.9 %`."""
        factor, behind = (100.0, " %") if self.kind == "share" else (1.0, self._behind)
        low, high = (self._told(end * factor, self._places(i, factor)) for end in (i.low, i.high))
        return f"{low} to {high}{behind}"

    def axis(self, x: float, *, times: float = 1.0) -> str:
        """At a chart's axis."""
        return f"{x * self._factor(times):,.6g}".replace("-", "−")

    @property
    def name(self) -> str:
        """Of differences."""
        return self._behind.strip()

    def _factor(self, times: float) -> float:
        return 100.0 if self.kind == "share" and times == 1 else times

    @property
    def _behind(self) -> str:
        return " points" if self.kind == "share" else self._of_many

    @property
    def _of_many(self) -> str:
        return f" {self.currency}" if self.currency else ""

    def _places(self, i: Interval, factor: float) -> int:
        return max(_places(each, factor) for each in (i, *self.beside))

    @staticmethod
    def _told(x: float, places: int, *, sign: str = "") -> str:
        if not np.isfinite(x):
            return "–"
        rounded = round(x, places) + 0.0  # no minus zero
        return f"{rounded:{sign if rounded else ''},.{max(0, places)}f}".replace("-", "−")


def _places(i: Interval, factor: float) -> int:
    """Decimals that an interval supports: the last one is worth a tenth of its half, or little more."""
    half = abs(i.high - i.low) * factor / 2
    if not np.isfinite(half) or half == 0:
        return 2
    places = int(-np.floor(np.log10(half / 3)))
    return max(_seen(end * factor, places) for end in (i.low, i.high))


def _seen(x: float, places: int) -> int:
    """Decimals, three more at the most, with which a number that is not zero is not written as zero."""
    if abs(x) < TINY:
        return places
    return next((more for more in range(places, places + 3) if round(x, more)), places + 3)
