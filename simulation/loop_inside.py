"""The shop's own side of the loop, in this process: what `attune serve` and `attune retrain` do, without HTTP or files.

It sees the tables alone. Arms, ranking and draws are `serving.decisions`', learning and judging `training.offers`';
features and profits are those of the rooms. Only rules that hold contacts back are left out, beside consent to the
channel, which the world asks for: they hold back alike in every arm.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from data.errors import DataError
from data.files import replacing
from data.tables import Tables, connect
from data.workspace import SETTINGS_FILE, Workspace
from evaluation.choices import NOBODY, compare_choices
from evaluation.intervals import Interval
from features.answers import own_answers
from features.decided import brought
from features.rules import parse_rule
from features.snapshots import definitions_hash, set_cutoff, steady_features, symbolic_sql, top_categories
from models.offers import BEST, NOTHING, USUAL, OfferModel
from registry.versions import Version
from serving.decisions.arms import arm_of
from serving.decisions.offers import Profit, explored, give, ranked
from simulation.catalogue import DAYS_PER_WEEK
from simulation.loop import Dealt, Loop
from simulation.world import World
from training import offers as learning
from training.gate import decide
from training.offer_rows import OfferRows, likings, over_message

USUAL_SHARE = 0.1
LEAST_LEFT = 0.05
"""For the arms of the model and of the usual rule together."""
LEAST_DECISIONS = 10
"""About each offer, and about none, to learn from."""


def shop_of(folder: Path, *, world: World, usual: str = "", salt: str = "loop") -> Workspace:
    """A workspace with the settings of the loop: offers work for a week, and chance decides as often as in the world.

    People keep their arm throughout, and no cap or quiet hour holds a weekly offer back.

    Raises:
        DataError: the world leaves too few for the model.
    """
    test = world.experiment
    left = max(1 - test.random_share - test.holdout_share, 0.0)
    if left < LEAST_LEFT:
        raise DataError(
            f"experiment.random_share {test.random_share} and holdout_share {test.holdout_share} leave {left:.2f} for "
            f"the model and the usual rule; leave at least {LEAST_LEFT}."
        )
    told = f"""# Made by `attune simulate --weeks`.
[shop]
name = "Simulated shop"
salt = {json.dumps(salt)}

[arms]
random = {test.random_share}
holdout = {test.holdout_share}
usual = {min(USUAL_SHARE, round(left / 2, 12))}
period_days = 3650

[offers]
horizon_days = {DAYS_PER_WEEK}
usual = {json.dumps(usual)}
contact_costs = {{ {json.dumps(world.messages.channels[0].name)} = 0 }}

[rules]
caps = {{}}
quiet_hours = {{}}
days_after_purchase = 0
"""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / SETTINGS_FILE) as beside:
        beside.write_text(told, encoding="utf-8")
    return Workspace.open(folder)


@dataclass(frozen=True, eq=False)
class Learnt:
    """What came of a training.

    Attributes:
        policy: What decides from now on: `best for each`, an offer for all, or the shop's usual rule.
        decisions: That were there to learn from.
        note: Why nothing new does; empty if something does.
    """

    policy: str
    decisions: int
    note: str = ""


class Inside:
    """A shop that decides, learns and reports, week by week.

    Args:
        world: That it lives in.
        workspace: Whose settings hold: arms, offers, features; its tables are not looked at.
        seed: Of the learning.

    Attributes:
        decisions: All that were made in the loop, `decision_id, user_id, at, arm, arm_share, chosen, probability`.
        model: That decides; None = the usual rule does.
        usual: What that rule says of each person decided for last.
    """

    def __init__(self, world: Loop, workspace: Workspace, *, seed: int = 0) -> None:
        self.world, self.seed = world, seed
        self.follow(workspace)
        if self.settings.offers.horizon_days > (world.starts(1) - world.starts(0)).days:
            raise DataError("offers.horizon_days is longer than the week that an offer works for. Set it to 7.")
        self.model: OfferModel | None = None
        self.usual: dict[str, str] = {}
        self.arms = (NOTHING, *(offer for offer in world.offers if offer != NOTHING))
        self.decisions = pd.DataFrame()
        self._backend = connect()
        for name, rows in world.history.items():
            self._backend.create_table(name, rows.unify_dictionaries())
        self._tables = Tables.of(self._backend, {name: self._backend.table(name) for name in world.history})
        categories = top_categories(self._tables, world.begin, self.settings.features.top_categories)
        self._query = symbolic_sql(self._tables, self.settings.features, categories=categories)
        self._hash = definitions_hash(self._tables, self.settings.features, categories=categories)
        self._likings = likings(self._tables, categories)
        self._steady = steady_features(self._tables, self.settings.features, categories=categories)
        self._log, self._known = self._experiments()

    def follow(self, workspace: Workspace) -> None:
        """Let other settings hold from now on, such as another usual rule."""
        self.workspace, self.settings = workspace, workspace.settings

    def features(self, at: datetime) -> pd.DataFrame:
        """Features of everybody known just before a moment, by user_id."""
        self._backend.raw_sql(set_cutoff(at))
        return self._backend.con.execute(self._query).df().set_index("user_id").sort_index()

    def known(self, users: Sequence[str], at: datetime) -> pd.DataFrame:
        """Features of these users, and how each of them answered each offer before, by user_id."""
        asked = pd.DataFrame({"user_id": users, "at": pd.Timestamp(at)}, index=pd.Index(users, name="user_id"))
        return self.features(at).reindex(users).join(own_answers(self._tables, asked, self.arms[1:]))

    def decide(self, week: int) -> pd.DataFrame:
        """Decide for all who can be reached as a week begins; the rows of `decisions`."""
        now = self.world.starts(week)
        users = [self.world.user_ids[row] for row in self.world.asked(week)]
        known = self.known(users, now)
        self.usual = dict(zip(users, self._by_rule(known), strict=True))
        rows = pd.DataFrame(self._decided(users, known, now))
        rows.insert(0, "decision_id", [f"w{week}-{user}" for user in users])
        self.decisions = pd.concat([self.decisions, rows], ignore_index=True)
        self._log = pd.concat([self._log, rows], ignore_index=True)
        self._known = pd.concat([self._known, known.reset_index(drop=True)], ignore_index=True)
        return rows

    def live(self, week: int, rows: pd.DataFrame) -> None:
        """Let the week pass and take in what happened."""
        fresh = self.world.live(week, Dealt(list(rows["user_id"]), list(rows["chosen"]), list(rows["decision_id"])))
        for name, table in fresh.items():
            columns = ", ".join(f'"{column}"' for column in table.column_names)
            self._backend.con.register("fresh", table.unify_dictionaries())
            self._backend.con.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM fresh")
            self._backend.con.unregister("fresh")

    def learn(self, now: datetime) -> Learnt:
        """Train, judge and take over what is best, as `attune train offers` and the gate do."""
        rows = self.rows(now)
        counts = np.bincount(rows.arm, minlength=len(self.arms))
        if counts.min() < LEAST_DECISIONS:
            fewest = self.arms[int(counts.argmin())]
            return Learnt(self.policy, len(rows.at), f"{fewest}, given {counts.min()} times: too few to learn from")
        try:
            judging = learning.judge(rows, seed=self.seed)
            best = learning.compared(self.workspace, judging, {BEST: BEST})
            policy = learning.chosen(self.workspace, judging, best)
            champion = {} if self.model is None else {"champion": self.model.policy}
            found = learning.compared(self.workspace, judging, {f"challenger: {policy}": policy, **champion})
        except DataError as error:
            return Learnt(self.policy, len(rows.at), str(error))
        version = Version(name=learning.NAME, number=0, run_id="", aliases=(), tags={})
        verdict = decide(version, found)
        if not verdict.passed:
            return Learnt(self.policy, len(rows.at), verdict.reasons[0])
        self.model = learning.fit(rows, policy=policy, seed=self.seed)
        return Learnt(policy, len(rows.at))

    @property
    def policy(self) -> str:
        """What decides in the model arm."""
        return USUAL if self.model is None else self.model.policy

    def rows(self, now: datetime) -> OfferRows:
        """The decisions that chance made whose outcomes are known by now, as `training.offer_rows` has them."""
        days = self.settings.offers.horizon_days
        usable = ((self._log["probability"] < 1) & (self._log["at"] <= now - timedelta(days=days))).to_numpy()
        made = self._log[usable].reset_index(drop=True)
        codes = pd.Index(self.arms).get_indexer(made["chosen"])
        K, even = len(self.arms), (made["arm"] == "random").to_numpy()
        chance = np.where(even, 1 / K, made["probability"])
        probabilities = np.tile(((1 - chance) / (K - 1))[:, None], (1, K))
        probabilities[np.arange(len(made)), codes] = chance
        profit = self._profit(made, now)
        orders, by_message = over_message(self._tables, now, made.assign(channel=self.world.channel), profit, days)
        return OfferRows(
            table=self._known[usable].reset_index(drop=True),
            steady=self._steady,
            user=made["user_id"].to_numpy(object),
            at=made["at"],
            arm=codes,
            outcome=profit,
            orders=orders,
            by_message=by_message,
            contact_cost=np.zeros(len(made)),
            probabilities=probabilities,
            even=even,
            arms=self.arms,
            horizon_days=days,
            end=now,
            definitions_hash=self._hash,
            notes=(),
            about=self._likings,
        )

    def gain(self, now: datetime) -> Interval | None:
        """What a decision of the model arm brought more than nobody's so far; None if it made none."""
        made = self.decisions[self.decisions["at"] < now].reset_index(drop=True)
        rows = made.assign(reward=self._profit(made, now))
        found = compare_choices(rows, first="model")
        return next((gain.gain for gain in found.gains if gain.against == NOBODY), None)

    def _decided(self, users: list[str], known: pd.DataFrame, now: datetime) -> list[dict[str, object]]:
        """Each person's decision, by their arm."""
        offers, settings = list(self.arms[1:]), self.settings
        found = None if self.model is None else self.model.predict(known.reset_index())
        decided = []
        for row, user in enumerate(users):
            arm = arm_of(user, settings.arms, salt=settings.shop.salt, now=now)
            profits: dict[str, Profit] = {}
            if found is not None and self.model is not None:
                each = zip(found.profit[row], found.low[row], found.high[row], found.best[row], strict=True)
                profits = {a: Profit(*map(float, p)) for a, p in zip(self.model.arms, each, strict=True)}
            policy = self.usual[user] if self.policy == USUAL else self.policy
            held = self.usual[user] if settings.offers.usual else None
            order = ranked(profits, offers, policy=policy, usual=held)
            given = give(
                arm.name,
                order,
                usual=self.usual[user],
                user_id=user,
                salt=settings.shop.salt,
                horizon_days=settings.offers.horizon_days,
                now=now,
                chances=explored(order, profits, share=settings.offers.explore),
            )
            decided.append({
                "user_id": user,
                "at": pd.Timestamp(now),
                "arm": arm.name,
                "arm_share": arm.share,
                "chosen": given.chosen[0],
                "probability": given.probability[0],
            })  # fmt: skip
        return decided

    def _by_rule(self, known: pd.DataFrame) -> list[str]:
        """What the usual rule says of each row of features."""
        text = self.settings.offers.usual
        if not text or not len(known):
            return [NOTHING] * len(known)
        return [self.arms[code] for code in parse_rule(text).codes(known, self.arms)]

    def _experiments(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The history's decisions about offers, without those of the first day, and what was known before each."""
        made = self._tables["decisions"]
        made = made.filter(made.kind == "offer")
        names = ["decision_id", "user_id", "at", "arm", "arm_share"]
        log = made.select(*names, chosen=made.chosen[0], probability=made.probability[0]).execute()
        log = log.sort_values(["at", "decision_id"], ignore_index=True)
        day = log["at"].dt.floor("D")
        log, day = log[day > day.min()], day[day > day.min()]
        # Everybody's moment of an experiment lies on one day or the next: what was known as that day began.
        moment = (day - day.min()).dt.days // 2 if len(day) else day
        parts = [
            self.features(day[rows.index].min().to_pydatetime()).reindex(rows["user_id"]).reset_index(drop=True)
            for _, rows in log.groupby(moment, sort=True)
        ]
        known = pd.concat(parts, ignore_index=True) if parts else self.features(self.world.begin).iloc[:0]
        log = log.reset_index(drop=True)
        return log, known.join(own_answers(self._tables, log, self.arms[1:]))

    def _profit(self, made: pd.DataFrame, now: datetime) -> np.ndarray:
        days = self.settings.offers.horizon_days
        told = made[["decision_id", "user_id", "at"]]
        found = brought(self._tables, now, told, value="profit", horizon_days=days)
        return np.asarray(found.to_numpy(dtype=np.float64))
