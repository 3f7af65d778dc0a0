"""The loop: what a shop that decides, learns and decides again earns, week by week, in a world whose truth is known.

`python -m benchmarks loop [--world FILE] [--size USERS] [--trials SEEDS] [--seed FIRST]`. Each seed is another shop of
5,000 customers with the history of `attune simulate`. For 12 weeks everybody who can be reached is decided for by their
arm, with the decision code of the service; a model is trained and judged as by `attune train offers` before the first
week and after every fourth. The true profit of what the model arm got in the last four weeks is held against that of
the oracle, who knows everybody's true effects, of `usual`, the rule on one feature that truly earns most, and of
`random`, on the same people. The report's interval of what the model arm gained over those left alone is asked each
week whether it holds the truth. `visible` is the limit of what can be told from what is known of people, how they
answered earlier offers included: the best policy by regressions that learnt the true effects themselves, of others.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.result import Result
from data.errors import DataError
from data.progress import track
from evaluation.intervals import Interval, normal_mean
from models.uplift.rewards import expected_rewards
from simulation.loop import Loop, best_rule
from simulation.loop_inside import Inside, shop_of
from simulation.world import World

USERS, SEEDS, WEEKS, LAST, EVERY = 5000, 20, 12, 4, 4
"""Customers, shops, weeks, weeks judged, weeks between trainings."""


@dataclass(frozen=True)
class Played:
    """What came of one seed; money per decision about the model arm in the last weeks.

    Attributes:
        oracle: What knowing everything would have brought.
        model: What the model arm's decisions did.
        usual: What the best rule on one feature would have.
        random: What even draws would have.
        single: What the best single offer for all would have.
        covered: Whether the report's interval held the truth, by week; nothing in a world without holdout.
        left_model: Share of the model arm that unsubscribed.
        left_random: Of the random arm.
        policy: What decided at the end.
    """

    oracle: float
    model: float
    usual: float
    random: float
    single: float
    covered: tuple[bool, ...]
    left_model: float
    left_random: float
    policy: str

    @property
    def share(self) -> float:
        """Of the oracle's profit; 1 where there is nothing to be had and nothing was lost."""
        return self.model / self.oracle if self.oracle > 0 else float(self.model >= 0)


def run(
    *, size: str | None = None, trials: int | None = None, seed: int | None = None, world: Path | None = None
) -> Result:
    """Play some shops.

    Raises:
        DataError: a size that is no number, or a world that cannot be read.
    """
    if size is not None and not size.isdecimal():
        raise DataError(f"--size {size}: give the number of customers.")
    parameters, users = World.load(world), int(size or USERS)
    played: list[Played] = []
    limits: list[float] = []
    print(f"{'seed':>4} {'oracle':>7} {'model':>7} {'usual':>7} {'single':>7} {'random':>7}  share  covered  policy")
    for number in track(range(seed or 0, (seed or 0) + (trials or SEEDS)), "playing shops"):
        started = time.perf_counter()
        found, visible = _play(parameters, users, number, limit=not limits)
        played.append(found)
        limits += [] if visible is None else [visible]
        money = " ".join(f"{v:7.3f}" for v in (found.oracle, found.model, found.usual, found.single, found.random))
        seconds = time.perf_counter() - started
        covered = f"{sum(found.covered)}/{len(found.covered)}"
        print(f"{number:>4} {money} {found.share:6.1%}  {covered:>7}  {found.policy} ({seconds:.0f} s)", flush=True)
    return _result(played, limits[0])


def _play(parameters: World, users: int, seed: int, *, limit: bool) -> tuple[Played, float | None]:
    """One shop, and if asked for the visible limit as a share of the oracle's."""
    world = Loop(parameters, users=users, weeks=WEEKS, seed=seed)
    with tempfile.TemporaryDirectory() as scratch:
        salt = f"loop {seed}"
        shop = Inside(world, shop_of(Path(scratch) / "first", world=parameters, salt=salt), seed=seed)
        asked = world.asked(0)
        known = shop.features(world.begin).reindex([world.user_ids[row] for row in asked])
        rule = best_rule(known, world.profit(0)[asked], world.offers)
        shop.follow(shop_of(Path(scratch) / "shop", world=parameters, salt=salt, usual=rule))
        before, policy = world.unsubscribed(), ""
        earned: list[pd.DataFrame] = []
        covered = []
        for week in range(WEEKS):
            if week % EVERY == 0:
                learnt = shop.learn(world.starts(week))
                policy = learnt.policy if not learnt.note else f"{learnt.policy}: {learnt.note}"
            asked, true = world.asked(week), world.profit(week)
            rows = shop.decide(week)
            earned.append(_earned(rows, true[asked], world, shop, week))
            shop.live(week, rows)
            truth = pd.concat(earned).query("arm == 'model'")["chosen"].mean()
            found = shop.gain(world.starts(week + 1))
            if found is not None:
                covered.append(bool(found.low <= truth <= found.high))
        first = earned[0].assign(left=(world.unsubscribed() & ~before)[earned[0].index])
        left = first.groupby("arm")["left"].mean()
        late = pd.concat(earned[-LAST:]).query("arm == 'model'").mean(numeric_only=True)
        singles = late[[name for name in late.index if str(name).startswith("to all ")]]
        visible = _visible(shop, world) if limit else None
    return Played(
        oracle=float(late["oracle"]),
        model=float(late["chosen"]),
        usual=float(late["usual"]),
        random=float(late["random"]),
        single=float(singles.max()),
        covered=tuple(covered),
        left_model=float(left.get("model", np.nan)),
        left_random=float(left.get("random", np.nan)),
        policy=policy,
    ), visible


def _earned(rows: pd.DataFrame, true: np.ndarray, world: Loop, shop: Inside, week: int) -> pd.DataFrame:
    """True profit of each decision, and of what others would have decided, by row of the world."""
    codes = pd.Index(world.offers).get_indexer(rows["chosen"])
    usual = pd.Index(world.offers).get_indexer([shop.usual[user] for user in rows["user_id"]])
    every = np.arange(len(rows))
    told = {
        "arm": rows["arm"].to_numpy(),
        "oracle": true.max(axis=1),
        "chosen": true[every, codes],
        "usual": true[every, usual],
        "random": true.mean(axis=1),
        **{f"to all {offer}": true[:, code] for code, offer in enumerate(world.offers)},
    }
    return pd.DataFrame(told, index=world.asked(week))


def _visible(shop: Inside, world: Loop) -> float:
    """Share of the oracle's profit in the last week by regressions of the true effects that did not see the person."""
    asked = world.asked(WEEKS - 1)
    true, K = world.profit(WEEKS - 1)[asked], len(world.offers)
    known = shop.known([world.user_ids[row] for row in asked], world.starts(WEEKS - 1))
    table = pd.concat([known] * K, ignore_index=True)
    action = np.repeat(np.arange(K), len(asked))
    expected = expected_rewards(table, action, true.T.ravel(), n_actions=K)
    each = expected.reshape(K, len(asked), K)[np.arange(K), :, np.arange(K)]
    return float(true[np.arange(len(asked)), each.argmax(axis=0)].mean() / max(true.max(axis=1).mean(), 1e-12))


def _result(played: list[Played], visible: float) -> Result:
    def over(values: list[float]) -> Interval:
        return normal_mean(np.array(values, dtype=np.float64))

    share = over([one.share for one in played])
    gains = {name: over([one.model - getattr(one, name) for one in played]) for name in ("usual", "random", "single")}
    left = over([one.left_model - one.left_random for one in played])
    covered = [held for one in played for held in one.covered]
    coverage = float(np.mean(covered)) if covered else np.nan
    oracle = float(np.mean([one.oracle for one in played]))
    print(f"\nthe last {LAST} weeks of {len(played)} shops, per decision: the oracle {oracle:.3f}")
    print(f"  share of the oracle's profit {share}")
    print(f"  as far as is known of people, it could be {visible:.1%} (first shop, learnt from the truth itself)")
    for name, gain in gains.items():
        print(f"  over {name:7} {gain}")
    print(f"  intervals that hold the truth: {coverage:.1%} of {len(covered)}")
    print(f"  unsubscribed more than random: {left}")
    metrics = {
        "share_of_oracle": share.estimate,
        "gain_over_usual_low": gains["usual"].low,
        "gain_over_random_low": gains["random"].low,
        "interval_coverage": coverage,
        "unsubscribes_over_random": left.estimate,
    }
    peers = {
        "visible": round(visible, 4),
        "usual": round(float(np.mean([one.usual for one in played])) / oracle, 4) if oracle else 0.0,
        "single": round(float(np.mean([one.single for one in played])) / oracle, 4) if oracle else 0.0,
        "random": round(float(np.mean([one.random for one in played])) / oracle, 4) if oracle else 0.0,
    }
    intervals = {"share_of_oracle": share, "unsubscribes_over_random": left}
    intervals |= {f"gain_over_{name}": gain for name, gain in gains.items()}
    return Result(metrics=metrics, intervals=intervals, peers=peers)
