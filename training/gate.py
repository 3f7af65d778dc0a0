"""The gate: whether a challenger may go live, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from registry.versions import Version
from training.results import Comparison, Judged

MAX_CALIBRATION_ERROR = 0.10
"""A probability that is surely further off than this, on average, means nothing to whoever acts on it. What chance
makes of few people is taken off first, in squares: it is independent of what is wrong."""
SUSPECTED_LEAK = "suspected_leak"
"""Tag of a version whose figures are too good to be true; empty where they are not."""


@dataclass(frozen=True)
class Verdict:
    """What the gate decided.

    Attributes:
        version: The challenger.
        passed: Whether it may be the champion.
        reasons: Why, in sentences.
    """

    version: Version
    passed: bool
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.version}: {'promoted' if self.passed else 'refused'}: {'; '.join(self.reasons)}"


def decide(challenger: Version, comparison: Comparison, *, same_data: bool = False, broken: str = "") -> Verdict:
    """Whether the comparison's first model may take the place of the champion in it.

    It must answer its stored examples, raise no suspicion of a leak, and be calibrated where it gives probabilities.
    Against a champion it must be better on the paired interval; or equal and lighter, or equal (or so few were judged
    that it cannot be told) and the same recipe learnt anew; or not surely worse, where the champion is of those that
    make way (`Comparison.yielding`). A first champion must beat the best baseline, or be a baseline that no other is
    surely better than: which one that is was settled on earlier rows, and the test rows may only veto.

    Args:
        challenger: The version asked about.
        comparison: It, the champion if there is one, and the baselines, on the same rows.
        same_data: Whether the champion learnt from the same tables.
        broken: Why it does not answer its stored examples, if it does not.
    """
    first = comparison.rows[0]
    refusals = [broken] if broken else []
    if leak := challenger.tags.get(SUSPECTED_LEAK):
        refusals.append(f"{leak}. Find that feature and leave it out.")
    error, noise = first.metrics.get("calibration_error"), comparison.calibration_noise
    if error is not None and error.low > math.hypot(noise, MAX_CALIBRATION_ERROR):
        right = f" (of which so few people make about {noise:.3f})" if noise else ""
        refusals.append(f"its probabilities are off by {error}{right}, surely more than {MAX_CALIBRATION_ERROR}")
    champion = next((row for row in comparison.rows if row.name.startswith("champion")), None)
    yields = champion is not None and champion.recipe in comparison.yielding
    beaten, why = _beats_champion(first, champion, same_data, yields) if champion else _beats_baselines(comparison)
    if refusals:
        return Verdict(challenger, passed=False, reasons=tuple(refusals))
    return Verdict(challenger, passed=beaten, reasons=(why,))


def _beats_champion(first: Judged, champion: Judged, same_data: bool, yields: bool) -> tuple[bool, str]:
    gain = champion.gain
    assert gain is not None  # noqa: S101 - only the first row has none
    if gain.low > 0 or gain.high < 0:
        better = gain.low > 0
        return better, f"better than {champion.name} by {gain}" if better else f"worse than {champion.name}: {gain}"
    if first.recipe == champion.recipe:
        data = "the same data" if same_data else "newer data"
        worse = "not known to be worse" if np.isnan(gain.low) else "no worse"
        return True, f"the same recipe as {champion.name} on {data}, and {worse}: {gain}"
    if np.isnan(gain.low):
        return False, f"it cannot be told whether it is worse than {champion.name} ({gain}); the champion stays"
    if yields:
        return True, f"{champion.name}, {champion.recipe}, makes way: it is not surely better ({gain})"
    if (first.size_bytes or 0) < (champion.size_bytes or 0):
        return True, f"no worse than {champion.name} ({gain}) and lighter ({first.size_bytes:,} bytes)"
    return False, f"not surely better than {champion.name} ({gain}) and not lighter; the champion stays"


def _beats_baselines(comparison: Comparison) -> tuple[bool, str]:
    first, best = comparison.rows[0], comparison.best_baseline
    if first.is_baseline and first.recipe == best.recipe:
        return True, f"{first.recipe} is the best there is on these rows: nothing was surely better"
    if first.is_baseline and best.gain is not None and not best.gain.high < 0:
        return True, f"{first.recipe}, a plain rule: no other is surely better"
    gain = best.gain
    assert gain is not None  # noqa: S101 - only the first row has none
    if np.isnan(gain.low):
        return False, f"it cannot be told whether it beats {best.name}: {'; '.join(comparison.notes)}"
    if gain.low > 0:
        return True, f"better than the best baseline, {best.name}, by {gain}"
    return False, f"does not beat the best baseline, {best.name}: {gain}. Bring more history or more features."
