"""Another library's recommender, searched within a budget and asked to rank.

Runs in `.venv-peers` and imports nothing of Attune: `rank.py FOLDER PEER --trials N --minutes M`. FOLDER holds, as
Parquet, a `fold_*` for each cutoff to choose on, with `known` (`user_id, item_id, weight, datetime`) and `taken`
(`user_id, item_id`), and a `window_*` for each to judge on, with `known` and `judged` (`user_id`); what the judged
users took is not there. `attributes` (`id, feature, value`) may tell of the items.

A trial learns from what was known at each cutoff and is scored by NDCG@20 over the users of all folds, with and without
what a person had before; the best one learns again from each window's `known`. Writes `PEER.parquet`
(`user_id, item_id, rank`) into each window's folder, and `PEER.json`.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from implicit.als import AlternatingLeastSquares
from implicit.bpr import BayesianPersonalizedRanking
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender
from implicit.recommender_base import RecommenderBase
from rectools import Columns
from rectools.dataset import Dataset
from rectools.metrics import NDCG
from rectools.models import EASEModel, ImplicitALSWrapperModel
from rectools.models.base import ModelBase
from scipy import sparse

K = 20
N_TIMED = 100
"""Single requests that the latency is taken over."""
SEED = 0

Params = dict[str, Any]
Rank = Callable[[pd.Index, bool], pd.DataFrame]
"""Users known to the model, and whether to leave out what they had -> `user_id, item_id, rank` (from 1)."""


@dataclass(frozen=True)
class Known:
    """What was known at a moment, as each library wants it.

    Attributes:
        frame: `user_id, item_id, weight, datetime`, a user's rows in the order of time.
        attributes: `id, feature, value` of items; None where nothing is known.
    """

    frame: pd.DataFrame
    attributes: pd.DataFrame | None

    @classmethod
    def read(cls, folder: Path, *, once: bool) -> Known:
        """From a fold's files; where `once` with weight 1 for every item that a person had."""
        frame = pd.read_parquet(folder / "known.parquet")
        if once:
            frame = frame.drop_duplicates(["user_id", "item_id"], keep="last").assign(weight=np.float32(1))
        told = folder / "attributes.parquet"
        return cls(frame, pd.read_parquet(told) if told.is_file() else None)

    @cached_property
    def users(self) -> pd.Index:
        """Ids of the rows of `matrix`."""
        return pd.Index(self.frame["user_id"].unique())

    @cached_property
    def items(self) -> pd.Index:
        """Ids of its columns."""
        return pd.Index(self.frame["item_id"].unique())

    @cached_property
    def matrix(self) -> sparse.csr_matrix:
        """Summed weights, float32."""
        row, column = self.users.get_indexer(self.frame["user_id"]), self.items.get_indexer(self.frame["item_id"])
        return sparse.csr_matrix((self.frame["weight"].to_numpy(np.float32), (row, column)))

    def dataset(self, *, attributes: bool) -> Dataset:
        """For RecTools."""
        if not attributes or self.attributes is None:
            return Dataset.construct(self.frame)
        told = self.attributes[self.attributes["id"].isin(self.items)]
        return Dataset.construct(self.frame, item_features_df=told, cat_item_features=told["feature"].unique())


@dataclass(frozen=True)
class Peer:
    """A model of another library.

    Attributes:
        defaults: What its library or paper starts from: the first trial.
        suggest: The hyperparameters of a trial.
        fit: What is known, hyperparameters and the seconds left -> the ranking.
    """

    defaults: Params
    suggest: Callable[[optuna.Trial], Params]
    fit: Callable[[Known, Params, float], Rank]


def main() -> None:
    """Search, learn again, rank, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    options = parser.parse_args()
    _quieten()

    peer, seconds = PEERS[options.peer], options.minutes * 60
    started = time.perf_counter()
    study = search(peer, options.folder, options.trials, seconds)
    search_seconds = time.perf_counter() - started
    params, exclude_seen = study.best_trial.user_attrs["params"], study.best_trial.user_attrs["exclude_seen"]
    fit_seconds = []
    for window in sorted(options.folder.glob("window_*")):
        started = time.perf_counter()
        known, rank = _learnt(peer, window, params, seconds)
        fit_seconds.append(time.perf_counter() - started)
        judged = pd.Index(pd.read_parquet(window / "judged.parquet")["user_id"])
        warm = judged[judged.isin(known.users)]
        rank(warm, exclude_seen).to_parquet(window / f"{options.peer}.parquet", index=False)
    about = {
        "params": params,
        "exclude_seen": exclude_seen,
        "validation_ndcg_at_20": study.best_value,
        "trials": len(study.trials),
        "search_seconds": search_seconds,
        "fit_seconds": float(np.mean(fit_seconds)),
        "p95_latency_ms": _p95_latency_ms(rank, warm, exclude_seen),
    }
    (options.folder / f"{options.peer}.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


def search(peer: Peer, folder: Path, trials: int, seconds: float) -> optuna.Study:
    """The best of up to `trials` over the folds; after `seconds` no further one begins.

    A peer that fails with its defaults fails; of the others a trial that the memory does not carry ends alone.
    """
    folds = sorted(folder.glob("fold_*"))
    deadline = time.perf_counter() + seconds

    def tried(trial: optuna.Trial) -> float:
        params = {"once": trial.suggest_categorical("once", [False, True]), **peer.suggest(trial)}
        values: dict[bool, list[pd.Series]] = {False: [], True: []}
        for number, fold in enumerate(folds):
            left = (deadline - time.perf_counter()) / (len(folds) - number)
            known, rank = _learnt(peer, fold, params, left)
            taken = pd.read_parquet(fold / "taken.parquet")
            taken = taken[taken["user_id"].isin(known.users)]
            users = pd.Index(taken["user_id"].unique())
            for exclude_seen, of in values.items():
                of.append(NDCG(K, divide_by_achievable=True).calc_per_user(rank(users, exclude_seen), taken))
        score = {exclude_seen: float(pd.concat(of).mean()) for exclude_seen, of in values.items()}
        best = max(score, key=score.__getitem__)
        trial.set_user_attr("params", params)
        trial.set_user_attr("exclude_seen", best)
        print(f"  {score[best]:.4f} {'new items only' if best else 'everything'} {params}", flush=True)
        return score[best]

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=SEED))
    study.enqueue_trial({"once": False, **peer.defaults})
    study.optimize(tried, n_trials=1, gc_after_trial=True)
    left = max(0.0, deadline - time.perf_counter())
    study.optimize(tried, n_trials=trials - 1, timeout=left, catch=(MemoryError, RuntimeError), gc_after_trial=True)
    return study


def _learnt(peer: Peer, folder: Path, params: Params, seconds: float) -> tuple[Known, Rank]:
    """What was known, and the peer's ranking learnt from it."""
    known = Known.read(folder, once=params["once"])
    return known, peer.fit(known, {name: value for name, value in params.items() if name != "once"}, seconds)


def _implicit(model: RecommenderBase, known: Known) -> Rank:
    """The ranking of implicit itself."""
    model.fit(known.matrix, show_progress=False)

    def rank(users: pd.Index, exclude_seen: bool) -> pd.DataFrame:
        rows = known.users.get_indexer(users)
        items, scores = model.recommend(rows, known.matrix[rows], N=K, filter_already_liked_items=exclude_seen)
        found = (items >= 0) & (scores > np.finfo(np.float32).min)
        row, place = np.nonzero(found)
        frame = pd.DataFrame({"user_id": users[row], "item_id": known.items[items[found]], "rank": place + 1})
        return frame.drop_duplicates(["user_id", "item_id"])

    return rank


def _rectools(model: ModelBase, known: Known, *, attributes: bool = False) -> Rank:
    """The ranking of RecTools itself."""
    dataset = known.dataset(attributes=attributes)
    model.fit(dataset)

    def rank(users: pd.Index, exclude_seen: bool) -> pd.DataFrame:
        # Of whom nothing is left after a model's own filters (a transformer drops who has one item) it says nothing.
        found = model.recommend(users, dataset, k=K, filter_viewed=exclude_seen, on_unsupported_targets="ignore")
        return found[[Columns.User, Columns.Item, Columns.Rank]]

    return rank


def _als(trial: optuna.Trial) -> Params:
    return {
        "factors": trial.suggest_int("factors", 8, 256, log=True),
        "regularization": trial.suggest_float("regularization", 1e-3, 100, log=True),
        "alpha": trial.suggest_float("alpha", 0.1, 100, log=True),
        "iterations": trial.suggest_int("iterations", 5, 40, log=True),
    }


def _attributes(trial: optuna.Trial) -> Params:
    return {"attributes": trial.suggest_categorical("attributes", [False, True])}


def _als_of_rectools(known: Known, params: Params, _: float) -> Rank:
    own = {name: value for name, value in params.items() if name != "attributes"}
    model = ImplicitALSWrapperModel(AlternatingLeastSquares(**own, random_state=SEED))
    return _rectools(model, known, attributes=params["attributes"])


ALS_DEFAULTS = {"factors": 100, "regularization": 0.01, "alpha": 1.0, "iterations": 15}


def _sasrec_params(trial: optuna.Trial) -> Params:
    return {
        "n_factors": trial.suggest_categorical("n_factors", [32, 64, 128]),
        "n_blocks": trial.suggest_int("n_blocks", 1, 3),
        "n_heads": trial.suggest_categorical("n_heads", [1, 2, 4]),
        "dropout_rate": trial.suggest_float("dropout_rate", 0.1, 0.5),
        "session_max_len": trial.suggest_categorical("session_max_len", [50, 100, 200]),
        "loss": trial.suggest_categorical("loss", ["softmax", "gBCE", "sampled_softmax"]),
        "n_negatives": trial.suggest_categorical("n_negatives", [32, 128, 512]),
        "lr": trial.suggest_float("lr", 3e-4, 3e-3, log=True),
        "epochs": trial.suggest_int("epochs", 3, 60, log=True),
        **_attributes(trial),
    }


def _sasrec(known: Known, params: Params, seconds: float) -> Rank:
    """Stopped after `seconds`, so that at least one trial ends within any budget; learning again has all of it."""
    from pytorch_lightning import Trainer, seed_everything  # torch is slow to import, for one peer only
    from rectools.models import SASRecModel

    seed_everything(SEED, verbose=False)
    trainer = Trainer(
        max_epochs=params["epochs"],
        max_time=None if np.isinf(seconds) else {"seconds": max(1, int(seconds))},
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    own = {name: value for name, value in params.items() if name != "attributes"}
    model = SASRecModel(**own, get_trainer_func=lambda: trainer)
    return _rectools(model, known, attributes=params["attributes"])


def _neighbours(trial: optuna.Trial) -> Params:
    return {"K": trial.suggest_int("K", 5, 1000, log=True)}


PEERS = {
    "rectools-als": Peer(
        {**ALS_DEFAULTS, "attributes": False}, lambda trial: {**_als(trial), **_attributes(trial)}, _als_of_rectools
    ),
    "rectools-ease": Peer(
        {"regularization": 500.0},
        lambda trial: {"regularization": trial.suggest_float("regularization", 1, 5000, log=True)},
        lambda known, params, _: _rectools(EASEModel(**params), known),
    ),
    "rectools-sasrec": Peer(
        {
            "n_factors": 64,
            "n_blocks": 2,
            "n_heads": 2,
            "dropout_rate": 0.2,
            "session_max_len": 100,
            "loss": "softmax",
            "n_negatives": 128,
            "lr": 1e-3,
            "epochs": 15,
            "attributes": False,
        },
        _sasrec_params,
        _sasrec,
    ),
    "implicit-als": Peer(
        ALS_DEFAULTS,
        _als,
        lambda known, params, _: _implicit(AlternatingLeastSquares(**params, random_state=SEED), known),
    ),
    "implicit-bm25": Peer(
        {"K": 20, "K1": 1.2, "B": 0.75},
        lambda trial: {
            **_neighbours(trial),
            "K1": trial.suggest_float("K1", 0.05, 50, log=True),
            "B": trial.suggest_float("B", 0, 1),
        },
        lambda known, params, _: _implicit(BM25Recommender(**params), known),
    ),
    "implicit-cosine": Peer(
        {"K": 20}, _neighbours, lambda known, params, _: _implicit(CosineRecommender(**params), known)
    ),
    "implicit-bpr": Peer(
        {"factors": 100, "learning_rate": 0.01, "regularization": 0.01, "iterations": 100},
        lambda trial: {
            "factors": trial.suggest_int("factors", 8, 256, log=True),
            "learning_rate": trial.suggest_float("learning_rate", 1e-3, 0.2, log=True),
            "regularization": trial.suggest_float("regularization", 1e-4, 0.1, log=True),
            "iterations": trial.suggest_int("iterations", 20, 400, log=True),
        },
        lambda known, params, _: _implicit(BayesianPersonalizedRanking(**params, random_state=SEED), known),
    ),
}
"""Every peer by name."""


def _p95_latency_ms(rank: Rank, users: pd.Index, exclude_seen: bool) -> float:
    took = []
    for user in np.random.default_rng(SEED).choice(users, N_TIMED):
        started = time.perf_counter()
        rank(pd.Index([user]), exclude_seen)
        took.append(time.perf_counter() - started)
    return float(np.quantile(took, 0.95) * 1000)


def _quieten() -> None:
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for talker in (
        "pytorch_lightning",
        "lightning.pytorch",
        "lightning.fabric",
        "pytorch_lightning.utilities.rank_zero",
    ):
        logging.getLogger(talker).setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
