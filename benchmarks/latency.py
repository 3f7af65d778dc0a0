"""How long one recommendation takes, asked one by one on one thread, as a service is asked.

Least squares with 64 factors over 100,000 items, the history folded in, is held to 1.5 times what numpy needs to
score that catalogue for a known user and to pick the best with `argpartition`; the two take turns, so that whatever
else the machine does slows both. The other families stand beside it on a catalogue that each of them can carry: a
linear model of 100,000 items would need a matrix of 40 GB. What they learn from is random, for only its size matters
here.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from threadpoolctl import threadpool_limits

from benchmarks.result import Result
from data.errors import AttuneError, DataError
from data.histories import Histories
from data.interactions import Attributes, Interactions
from data.vocabulary import Vocabulary
from models.recommenders import MODELS, Recommender, load
from models.recommenders.als import ALS

K = 20
N_ITEMS, FACTORS = 100_000, 64
FAMILY_ITEMS = 5_000
STEPS_PER_USER = 20
N_CATEGORIES = 200
N_ASKED = 100
N_TIMED = 2_000
LIMIT = 1.5
DAY_SECONDS = 86_400


@dataclass(frozen=True, eq=False)
class Took:
    """What calls took, each array of shape (n_calls,).

    Attributes:
        wall_ms: By the clock: what the one who asks waits.
        cpu_ms: Of the thread: the same without the turns that other programs had.
    """

    wall_ms: np.ndarray
    cpu_ms: np.ndarray

    @property
    def summary(self) -> dict[str, float]:
        """What the table and the JSON line say of it."""
        p50_ms, p95_ms = np.quantile(self.wall_ms, [0.5, 0.95])
        return {"p50_ms": float(p50_ms), "p95_ms": float(p95_ms), "cpu_p95_ms": float(np.quantile(self.cpu_ms, 0.95))}


def run(*, data: Path | None, size: str | None) -> Result:
    """Fit, save, load and ask; print the table. `size` is the number of items of the large catalogue.

    Raises:
        DataError: data was named, or the size is no number.
    """
    if data is not None or not (size or "1").isdecimal():
        raise DataError("latency makes its own catalogue: leave --data out; --size is a number of items, like 100000.")
    n_items = int(size or N_ITEMS)
    n_family_items = min(n_items, FAMILY_ITEMS)
    with threadpool_limits(1, "blas"), tempfile.TemporaryDirectory() as scratch:
        large = _beside_numpy(random_shop(n_items, n_users=n_items // 4), Path(scratch))
        families = _families(random_shop(n_family_items, n_users=n_family_items), Path(scratch))
    als, numpy_alone = (large[name].summary for name in ("als", "numpy"))
    times = {f"{measure}_times_numpy": als[measure] / numpy_alone[measure] for measure in als}
    print(f"One recommendation for k={K} of {n_items:,} items with {FACTORS} factors, p95: ", end="")
    print(f"{times['p95_ms_times_numpy']:.2f} times numpy's ({times['cpu_p95_ms_times_numpy']:.2f} of the CPU)")
    _print({"als, folded in": als, "numpy, scores and argpartition": numpy_alone})
    print(f"\nEvery family over {n_family_items:,} items")
    _print(families)
    return Result(
        metrics={f"als_{measure}": value for measure, value in als.items()} | times,
        peers={"numpy": numpy_alone, "limits": {"p95_ms_times_numpy": LIMIT}, "families": families},
    )


def measure(asks: Mapping[str, Callable[[int], object]], *, n_asks: int) -> dict[str, Took]:
    """Call each name in turn with 0, 1, 2 ...; a first round goes unmeasured.

    Example:
        >>> measure({"nothing": lambda turn: None}, n_asks=3)["nothing"].wall_ms.shape
        (3,)
    """
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in asks}
    for turn in range(n_asks + 1):
        for name, ask in asks.items():
            started, used = time.perf_counter(), time.thread_time()
            ask(turn)
            took[name].append((time.perf_counter() - started, time.thread_time() - used))
    return {name: Took(*(1000 * np.array(seconds[1:]).T)) for name, seconds in took.items()}


def asking(model: Recommender, histories: Histories, exclude_seen: bool = True) -> Callable[[int], object]:
    """Asks a model for the best items of one history after the other, round and round."""
    rows = [histories[np.array([row])] for row in range(min(len(histories), N_ASKED))]
    return lambda turn: model.recommend(rows[turn % len(rows)], K, exclude_seen=exclude_seen)


def random_shop(n_items: int, *, n_users: int) -> Interactions:
    """Users who took items at random, the popular ones more often, over 90 days; every item has a category."""
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(10, n_items + 10)
    n = n_users * STEPS_PER_USER
    frame = pd.DataFrame(
        {
            "user_id": np.repeat([f"user{user}" for user in range(n_users)], STEPS_PER_USER),
            "item_id": np.char.add("item", rng.choice(n_items, n, p=popularity / popularity.sum()).astype(str)),
            "at": rng.integers(0, 90 * DAY_SECONDS, n),
        }
    )
    shop = Interactions.from_frame(frame, items=Vocabulary(sorted(f"item{item}" for item in range(n_items))))
    of = rng.integers(0, N_CATEGORIES, n_items)
    member = sparse.csr_matrix((np.ones(n_items, np.float32), (np.arange(n_items), of)), shape=(n_items, N_CATEGORIES))
    return replace(shop, attributes=Attributes(tuple(f"category={number}" for number in range(N_CATEGORIES)), member))


def _beside_numpy(shop: Interactions, scratch: Path) -> dict[str, Took]:
    ALS(factors=FACTORS, iterations=1).fit(shop).save(scratch / "large")
    model = ALS.load(scratch / "large")
    histories = Histories.from_interactions(shop, users=np.arange(N_ASKED))
    Y = model.factors_of_items
    known_users = model.user_factors(histories).astype(np.float32)

    def numpy_alone(turn: int) -> np.ndarray:
        scores = Y @ known_users[turn % N_ASKED]
        best = np.argpartition(scores, len(scores) - K)[-K:]
        ranked: np.ndarray = best[np.argsort(-scores[best])]
        return ranked

    return measure({"numpy": numpy_alone, "als": asking(model, histories)}, n_asks=N_TIMED)


def _families(shop: Interactions, scratch: Path) -> dict[str, Any]:
    """What one recommendation of each model takes, or why there is none."""
    histories = Histories.from_interactions(shop, users=np.arange(N_ASKED))
    asks, refused = {}, {}
    for name, kind in MODELS.items():
        try:
            kind().fit(shop).save(scratch / name)
        except AttuneError as error:
            refused[name] = {"refused": str(error)}
        else:
            asks[name] = asking(load(scratch / name), histories)
    took = measure(asks, n_asks=N_TIMED // 10)
    return {name: found.summary for name, found in took.items()} | refused


def _print(rows: Mapping[str, Mapping[str, Any]]) -> None:
    print(f"{'':<32}{'p50 ms':>10}{'p95 ms':>10}{'p95 CPU ms':>12}")
    for name, row in rows.items():
        cells = row.get("refused") or f"{row['p50_ms']:>10.3f}{row['p95_ms']:>10.3f}{row['cpu_p95_ms']:>12.3f}"
        print(f"{name:<32}{cells}")
