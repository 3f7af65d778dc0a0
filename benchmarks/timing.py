"""When to write: what each person's hour, learnt from 20 messages, gains over the best single hour for everybody.

On a simulated shop, whose messages go out at random hours, everybody's 21st message is asked about: the true chance
that it is opened at the hour which a learner chose, all else as it was. `share` is what a learner gains over the best
single hour (the truly best one), of what knowing each person's own hour would gain. Beside it stands a Bayes learner
that is told everything but who is who: the true prior of hours and levels, the true response to the hour, to fatigue
and to absence, and how present each person was. Each is asked with the messages alone, and with visits too; how much
visits count is for `training.send_time.fitted` to find out from the messages, as when a shop trains.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import softmax

from benchmarks.result import Result
from data.checks import check
from data.errors import DataError
from data.progress import timed
from data.workspace import Workspace
from evaluation.intervals import mean, paired_difference
from features.hours import habits
from features.snapshots import span
from models.timing import Engagement, Timing, choose
from simulation import responses
from simulation.shop import TRUTH, simulate
from simulation.world import World
from training.send_time import fitted

SIZES = {"2k": 2_000, "6k": 6_000, "20k": 20_000}
DAYS = 365
"""So long that most people get more than 20 messages."""
MESSAGES = 20
HOURS = np.arange(24) + 0.5
"""A message of an hour goes out in its middle, on average."""
BLOCK_PEOPLE = 500


@dataclass(frozen=True, eq=False)
class Asked:
    """Those asked about, n people, and what is true of them.

    Attributes:
        user: Ids, (n,).
        told: Their first 20 messages, a row each, with `person`, the row of the user.
        visits: Hours in the shop before the 21st message, a row each, with `person`.
        last: The 21st messages, a row per person.
        truth: A row of the truth per person.
    """

    user: pd.Index
    told: pd.DataFrame
    visits: pd.DataFrame
    last: pd.DataFrame
    truth: pd.DataFrame


def run(*, data: Path | None, size: str | None, seed: int | None = None) -> Result:
    """Simulate a shop of `size` users (2k, 6k or 20k; by default 6k) over a year with a seed (by default 0), and ask.

    Raises:
        DataError: another size, or a folder of data: only of a simulated shop the truth is known.
    """
    size = size or "6k"
    if size not in SIZES or data is not None:
        raise DataError(f"timing makes its own data: leave --data out and choose --size from {', '.join(SIZES)}.")
    world = World.load()
    with tempfile.TemporaryDirectory(prefix="attune-timing-") as folder:
        simulate(folder, users=SIZES[size], days=DAYS, seed=seed or 0, world=world)
        workspace = Workspace.open(folder)
        check(workspace)
        asked = _asked(workspace)
    chance = _chance(asked.last, asked.truth, HOURS, world)  # (n, 24)
    own = _chance(asked.last, asked.truth, asked.truth.best_hour.to_numpy()[:, None], world)[:, 0]
    single = chance[:, int(chance.mean(axis=0).argmax())]
    first, until = int(world.messages.first_hour), int(world.messages.last_hour)
    opens = {
        "random hours": chance[:, first:until].mean(axis=1),
        "best single hour": single,
        **{name: chance[np.arange(len(single)), hour] for name, hour in _hours(asked, world).items()},
        "own hour known": own,
    }
    knowable = float((own - single).mean())
    gains = {name: paired_difference(found, single) for name, found in opens.items()}
    shares = {name: gain.estimate / knowable for name, gain in gains.items()}
    print(f"{len(single):,} people after {MESSAGES} messages; opens of 100 messages, and the gain on the single hour")
    for name, found in opens.items():
        gain = gains[name]
        print(
            f"{name:<28}{100 * found.mean():8.2f}{100 * gain.estimate:+8.2f} [{100 * gain.low:+.2f}, "
            f"{100 * gain.high:+.2f}]   share {shares[name]:.3f}"
        )
    return Result(
        metrics={
            "open_rate": float(opens[ATTUNE].mean()),
            "open_rate_gain": gains[ATTUNE].estimate,
            "open_rate_gain_low": gains[ATTUNE].low,
            "share_of_knowing": shares[ATTUNE],
            "share_of_knowing_messages_only": shares[MESSAGES_ONLY],
        },
        intervals={"open_rate": mean(opens[ATTUNE]), "open_rate_gain": gains[ATTUNE]},
        peers={
            name: {"open_rate": float(opens[name].mean()), "share_of_knowing": shares[name]}
            for name in opens
            if name not in {ATTUNE, MESSAGES_ONLY}
        },
    )


ATTUNE, MESSAGES_ONLY = "attune", "attune, messages only"


def _hours(asked: Asked, world: World) -> dict[str, np.ndarray]:
    """The hour that each learner chooses for each person."""
    channels = [channel.name for channel in world.messages.channels]
    told = Engagement.from_frames(asked.user, asked.told, asked.visits, channels=channels)
    chosen = {}
    for name, weigh in ((ATTUNE, fitted), (MESSAGES_ONLY, Timing(activity_weight=0).fit)):
        with timed(name):
            model = weigh(told, seed=0)
        print(f"{name}: {model.params}")
        chosen[name] = choose(model.score(told).rate, allowed=model.hours).hour
    for name, weight in (("Bayes, true prior", 1), ("Bayes, messages only", 0)):
        chosen[name] = _bayes(asked, world, visits=weight)
    return chosen


def _asked(workspace: Workspace) -> Asked:
    tables = workspace.checked
    end = pd.Timestamp(span(tables).end)
    known = tables.as_of(end.to_pydatetime())
    seen = habits(known, end.to_pydatetime())
    sent = seen.answers
    start = end - pd.Timedelta(days=DAYS)
    sent["day"] = (sent["at"] - start) / pd.Timedelta(days=1)
    sent["recent"] = _recent(sent)
    truth = pd.read_parquet(workspace.path / TRUTH / "people.parquet").set_index("user_id")
    sent = sent[sent["user_id"].isin(truth.index)].reset_index(drop=True)  # not the dirt
    number = sent.groupby("user_id").cumcount()
    last = sent[number == MESSAGES].reset_index(drop=True)
    user = pd.Index(last["user_id"])
    told = sent[(number < MESSAGES) & sent["user_id"].isin(user)].reset_index(drop=True)
    told["person"] = user.get_indexer(told["user_id"])
    visits = seen.active.merge(last[["user_id", "at"]], on="user_id", suffixes=("", "_sent"))
    visits = visits[visits["at"] + pd.Timedelta(hours=1) <= visits["at_sent"]].reset_index(drop=True)
    visits["person"] = user.get_indexer(visits["user_id"])
    return Asked(user, told, visits, last, truth.loc[user].reset_index())


def _recent(sent: pd.DataFrame) -> np.ndarray:
    """Messages on the same channel in the seven days before each one."""
    line = sent.groupby(["user_id", "channel"], sort=False).ngroup().to_numpy() * 10_000.0 + sent["day"].to_numpy()
    ordered = np.sort(line)
    return np.asarray(np.searchsorted(ordered, line) - np.searchsorted(ordered, line - 7))


def _chance(sent: pd.DataFrame, truth: pd.DataFrame, hour: np.ndarray, world: World) -> np.ndarray:
    """True chance of an open of each message, had it been sent at the hours of its row, (m, hours)."""
    own = truth.open_logit.to_numpy()[:, None]
    return responses.open_probability(
        _base(sent, world) + own,
        hour=hour,
        best_hour=truth.best_hour.to_numpy()[:, None],
        recent=sent["recent"].to_numpy()[:, None],
        presence=_presence(sent, truth, world)[:, None],
        world=world,
    )


def _bayes(asked: Asked, world: World, *, visits: int) -> np.ndarray:
    """The hour chosen by who knows the prior and the response, (n,): exact on a grid of hours and levels."""
    about, messages = world.visits, world.messages
    grid = np.arange(0, 24, 0.5)
    away = np.array([(grid - peak + 12) % 24 - 12 for peak in about.hour_peaks])
    prior = np.array(about.hour_peak_shares) @ np.exp(-0.5 * (away / about.hour_peak_sigma) ** 2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    level = messages.open_sigma * nodes
    log_prior = np.log(prior / prior.sum())[:, None] + np.log(weights / weights.sum())
    seen = np.zeros((len(asked.user), len(grid)))
    if visits:
        start = asked.visits["hour"].to_numpy()[:, None] + 0.5
        apart = (start - grid + 12) % 24 - 12
        near = np.exp(-0.5 * (apart / about.hour_sigma) ** 2) / (about.hour_sigma * np.sqrt(2 * np.pi))
        awake = ((start >= 7) & (start < 23)) / 16
        np.add.at(
            seen,
            asked.visits["person"].to_numpy(),
            np.log((1 - about.any_hour_share) * near + about.any_hour_share * awake + 1e-12),
        )
    click = _click_given_open(world)
    chosen = np.zeros(len(asked.user), np.int64)
    by_person = asked.told["person"].to_numpy()
    for first in range(0, len(asked.user), BLOCK_PEOPLE):
        people = np.arange(first, min(first + BLOCK_PEOPLE, len(asked.user)))
        rows = asked.told[(by_person >= people[0]) & (by_person <= people[-1])]
        person = rows["person"].to_numpy()
        p = _open_by_kind(
            rows, asked.truth.iloc[person], rows["hour"].to_numpy()[:, None, None] + 0.5, grid, level, world
        )
        p = np.where(rows["by_click"].to_numpy()[:, None, None], p * click[_channel(rows, world)][:, None, None], p)
        answered = rows["answered"].to_numpy()[:, None, None]
        logits = np.zeros((len(people), len(grid), len(level)))
        np.add.at(logits, person - first, np.log(np.where(answered, p, 1 - p)))
        posterior = softmax(logits + seen[people][:, :, None] + log_prior, axis=(1, 2))
        last, truth = asked.last.iloc[people], asked.truth.iloc[people]
        expected = [
            (posterior * _open_by_kind(last, truth, np.full((1, 1, 1), hour), grid, level, world)).sum(axis=(1, 2))
            for hour in HOURS
        ]
        chosen[people] = np.argmax(expected, axis=0)
    return chosen


def _open_by_kind(  # noqa: PLR0917 - a formula's symbols
    sent: pd.DataFrame, truth: pd.DataFrame, hour: np.ndarray, grid: np.ndarray, level: np.ndarray, world: World
) -> np.ndarray:
    """Chance of an open of each message, were its person of each own hour and level, (m, hours, levels)."""
    return responses.open_probability(
        _base(sent, world)[:, :, None] + level,
        hour=hour,
        best_hour=grid[:, None],
        recent=sent["recent"].to_numpy()[:, None, None],
        presence=_presence(sent, truth, world)[:, None, None],
        world=world,
    )


def _channel(sent: pd.DataFrame, world: World) -> np.ndarray:
    return pd.Index([channel.name for channel in world.messages.channels]).get_indexer(sent["channel"])


def _base(sent: pd.DataFrame, world: World) -> np.ndarray:
    """What a message's channel gives to the log-odds of an open, (m, 1)."""
    return np.array([channel.open_logit for channel in world.messages.channels])[_channel(sent, world)][:, None]


def _presence(sent: pd.DataFrame, truth: pd.DataFrame, world: World) -> np.ndarray:
    """How present each message's person was when it was sent, (m,); `truth` has a row per message."""
    return responses.presence(
        sent["day"].to_numpy(),
        arrives=truth.arrives.to_numpy(),
        leaves=truth.leaves.to_numpy(),
        fade_days=truth.fade_days.to_numpy(),
        returns=truth.returns.to_numpy(),
        floor=world.visits.fade_floor,
    )


def _click_given_open(world: World) -> np.ndarray:
    """Mean chance of a click once opened, by channel: wordings aside."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    logit = np.array([channel.click_logit for channel in world.messages.channels])[:, None]
    return responses.click_probability(logit + world.messages.click_sigma * nodes) @ (weights / weights.sum())
