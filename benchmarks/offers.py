"""Next best offer, one or none, dealt at random in waves; learnt on all but two, chosen on one, tested on the last.

`python -m benchmarks offers --data ../shared/data/starbucks_offers`: ten offers in six waves. A row is a customer at a
wave, an hour at which offers were received, with what was known before it: what they spent, received, viewed and
completed, and who they are. What came of it is net spend: purchases from the wave on, for as long as the least time
between two waves (72 hours there), so that no purchase counts twice, less the rewards paid out in them. Candidates
learn on all waves but the last two; the one with the highest doubly robust net spend on the last but one is tested once
on the last, against the single offer that was best on the last but one and against each other one. Chances are each
wave's shares.

What the service would give the customers of the last wave is decided too: the model saved, read again, its profits
ranked and given by `serving/decisions/offers.py`, one customer after another. `served_minus_offline` is what that
policy is worth more than the model's offline one, by the same estimate: 0.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.result import Result
from data.errors import DataError
from data.files import read_rows
from data.progress import timed
from evaluation.off_policy import Logged, action_values, deterministic
from evaluation.policies import PolicyComparison, compare_policies
from models.offers import BEST, NOTHING, OfferModel
from models.uplift import PooledEffects, best_arms, fit_policy_tree
from serving.decisions.offers import Profit, give, ranked

RECEIVED = "offer received"
LEAST_HOURS = 24
"""Between two waves."""
COLUMNS = {
    "events": ("person", "event", "hour", "offer_id", "amount", "reward"),
    "customers": ("id", "age", "income", "gender", "became_member_on"),
    "offers": ("id", "offer_type", "difficulty", "duration", "reward"),
}
UNKNOWN_AGE = 118
"""What the publisher writes where age, sex and income are missing."""


def run(*, data: Path | None) -> Result:
    """Learn, choose, test."""
    if data is None or not data.is_dir():
        raise DataError("say --data ../shared/data/starbucks_offers.")
    arms, waves, hours = _waves(data)
    early = pd.concat(waves[:-2], ignore_index=True)
    columns = [name for name in early if name not in ("arm", "net_spend", "orders", "wave")]
    logs = {"early": early, "choosing": waves[-2], "test": waves[-1]}
    logged = {name: _logged(rows, len(arms)) for name, rows in logs.items()}
    log, chances = logged["early"]
    with timed("learning offers"):
        told = {"brought": early["orders"].to_numpy(), "by_message": log.reward}  # nobody knows what came over which
        model = PooledEffects().fit(early[columns], log.action, log.reward, arms=arms, **told)
    values = action_values(log, chances, model.expected(early[columns]))
    tree = fit_policy_tree(early[columns], values, names=arms)
    judged: dict[str, PolicyComparison] = {}
    picked = ""
    for name in ("choosing", "test"):
        rows = logs[name][columns]
        candidates = {"model": best_arms(model.predict(rows)), "tree": tree(rows)}
        for_all = {_single(arm): np.full(len(rows), code) for code, arm in enumerate(arms)}
        policies = {who: deterministic(codes, len(arms)) for who, codes in (candidates | for_all).items()}
        if picked:
            policies = {picked: policies.pop(picked), **policies}
        log, chances = logged[name]
        judged[name] = compare_policies(log, policies, model.expected(rows), arms=arms, probabilities=chances)
        estimates = {row.name: row.value.estimate for row in judged[name].rows}
        picked = picked or max(candidates, key=lambda who: estimates[who])
    singles = {row.name: row.value.estimate for row in judged["choosing"].rows if row.name not in ("model", "tree")}
    best = max(singles, key=lambda who: singles[who])
    _print(judged["test"], picked, best, str(tree), hours)
    gains = {gain.against: gain.gain for gain in judged["test"].gains}
    value = judged["test"].rows[0].value
    apart = _served_minus_offline(model, logs["test"][columns], *logged["test"], hours)
    print(f"  what the service gives is worth {apart:+.1e} more per customer than the model's offline policy")
    return Result(
        metrics={
            "net_spend": value.estimate,
            "net_spend_gain_over_best_single": gains[best].estimate,
            "served_minus_offline": apart,
        },
        intervals={"net_spend": value, "net_spend_gain_over_best_single": gains[best]},
        peers={row.name: round(row.value.estimate, 4) for row in judged["test"].rows},
    )


def _served_minus_offline(
    model: PooledEffects, rows: pd.DataFrame, log: Logged, chances: np.ndarray, hours: int
) -> float:
    """Doubly robust value of what is served less that of the offline policy."""
    with tempfile.TemporaryDirectory() as scratch:
        OfferModel(model.arms, model.effects, uplift=model).save(Path(scratch) / "offers")
        loaded = OfferModel.load(Path(scratch) / "offers")
    found, now = loaded.predict(rows), datetime(2026, 1, 1, tzinfo=UTC)
    served = []
    for row in range(len(rows)):
        ends = zip(loaded.arms, found.profit[row], found.low[row], found.high[row], strict=True)
        profits = {arm: Profit(*map(float, about)) for arm, *about in ends if arm != NOTHING}
        order = ranked(profits, list(profits), policy=BEST)
        got = give("model", order, usual=NOTHING, user_id=str(row), salt="", horizon_days=hours // 24, now=now)
        served.append(loaded.arms.index(got.chosen[0]))
    offline = best_arms(model.predict(rows))
    chosen = {"served": np.array(served), "offline": offline}
    policies = {who: deterministic(codes, len(loaded.arms)) for who, codes in chosen.items()}
    judged = compare_policies(log, policies, model.expected(rows), arms=loaded.arms, probabilities=chances)
    return judged.gains[0].gain.estimate


def _single(arm: str) -> str:
    return "nobody" if arm == NOTHING else f"{arm} to all"


def _logged(rows: pd.DataFrame, n_arms: int) -> tuple[Logged, np.ndarray]:
    """Decisions, and each arm's chance: its share of the wave."""
    arm = rows["arm"].to_numpy()
    shares = pd.crosstab(rows["wave"], rows["arm"], normalize="index").reindex(columns=range(n_arms), fill_value=0.0)
    chances = shares.loc[rows["wave"]].to_numpy()
    return Logged(arm, rows["net_spend"].to_numpy(), chances[np.arange(len(rows)), arm]), chances


def _waves(folder: Path) -> tuple[tuple[str, ...], list[pd.DataFrame], int]:
    """Names of the arms, of each wave a row per customer, and the hours in which purchases count.

    Raises:
        DataError: a file or column is missing, or there are not three waves a day apart.
    """
    events, people, offers = (read_rows(folder / f"{name}.parquet", columns) for name, columns in COLUMNS.items())
    told = offers.sort_values(["offer_type", "difficulty", "duration", "reward", "id"])
    names = [f"{o.offer_type} {o.reward} for {o.difficulty} in {o.duration:.0f} d" for o in told.itertuples()]
    arms = (NOTHING, *names)
    code = dict(zip(told["id"], range(1, len(arms)), strict=True))
    people = people.set_index("id")
    joined = people["became_member_on"]
    if not pd.api.types.is_datetime64_any_dtype(joined):
        joined = pd.to_datetime(joined.astype(str), format="mixed", errors="coerce")
    who = pd.DataFrame(
        {
            "age": people["age"].where(people["age"] != UNKNOWN_AGE).astype(float),
            "income": people["income"],
            "gender": people["gender"],
            "member_days": (joined.max() - joined).dt.days.astype(float),
        }
    )
    starts = np.unique(events["hour"][events["event"] == RECEIVED])
    hours = int(np.diff(starts).min(initial=np.iinfo(int).max))
    if len(starts) < 3 or hours < LEAST_HOURS:
        raise DataError(f"offers were received at {len(starts)} hours; give three waves and more, a day apart.")
    return arms, [_wave(events, who, code, starts, number, hours) for number in range(len(starts))], hours


def _wave(  # noqa: PLR0917 - all of one wave
    events: pd.DataFrame, who: pd.DataFrame, code: dict[str, int], starts: np.ndarray, number: int, hours: int
) -> pd.DataFrame:
    start = starts[number]
    before, after = events[events["hour"] < start], events[events["hour"].between(start, start + hours - 1)]

    def total(rows: pd.DataFrame, what: str) -> pd.Series:
        return rows.groupby("person")[what].sum().reindex(who.index, fill_value=0.0).astype(float)

    def count(rows: pd.DataFrame, event: str) -> pd.Series:
        return rows[rows["event"] == event].groupby("person").size().reindex(who.index, fill_value=0).astype(float)

    recent = before[before["hour"] >= start - 168]
    bought = before[before["event"] == "transaction"]
    got = events[(events["event"] == RECEIVED) & (events["hour"] == start)].set_index("person")["offer_id"]
    return who.assign(
        spent=total(before, "amount"),
        spent_last_week=total(recent, "amount"),
        largest_purchase=bought.groupby("person")["amount"].max().reindex(who.index),
        purchases=count(before, "transaction"),
        hours_since_purchase=start - bought.groupby("person")["hour"].max().reindex(who.index).astype(float),
        rewards=total(before, "reward"),
        received=count(before, RECEIVED),
        viewed=count(before, "offer viewed"),
        completed=count(before, "offer completed"),
        completed_last_week=count(recent, "offer completed"),
        arm=got.map(code).reindex(who.index).fillna(0).astype(int),
        orders=count(after, "transaction"),
        net_spend=total(after, "amount") - total(after, "reward"),
        wave=number,
    ).reset_index(drop=True)


def _print(found: PolicyComparison, picked: str, best: str, tree: str, hours: int) -> None:
    print(f"last wave: {found.n:,} customers; net spend each in {hours} hours. Chosen on the one before: {picked}")
    gains = {gain.against: gain for gain in found.gains}
    for row in found.rows:
        ahead = f"   {picked} ahead by {gains[row.name].gain}, paired" if row.name in gains else ""
        print(f"  {row.name:36}{row.value!s:>30}{ahead}")
    gain = gains[best].gain
    verdict = "ahead of" if gain.low > 0 else "behind" if gain.high < 0 else "not shown to differ from"
    without = gains[best].without_largest
    print(f"  {picked} is {verdict} the best single offer of the wave before, {best!r}: {gain}")
    if without is not None:
        print(f"  without the largest customer, who brought {found.largest_share:.0%} of all: {without}")
    print("  the tree:\n    " + tree.replace("\n", "\n    "))
