"""The sequence recommender: what comes next after what a person did, in its order and at its pace."""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from data.errors import DataError, ModelFileError
from data.histories import Histories
from data.interactions import Interactions
from models.recommenders.base import Groups, Recommender
from models.recommenders.sequence.windows import N_GAPS, STEPS_AT_ONCE, alike, gap_classes, rectangle

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

DENSE_EVENTS = 50
DENSE_DROPOUT, SPARSE_DROPOUT = 0.2, 0.5
"""Where people did at least so many things on average, and where they did fewer."""
AGREEMENT = 1e-5
"""How far onnxruntime may be from PyTorch."""


class CausalTransformer(Recommender):
    """A transformer that reads a history and says what comes next (SASRec, Kang and McAuley 2018).

    Learnt with the softmax over all items, or a sample of them, which is what makes SASRec strong (Klenitskiy and
    Vasilev 2023, "Turning Dross Into Gold Loss"), or with gBCE (Petrov and Macdonald 2023, "gSASRec"); with gated
    layers, as eSASRec (Tikhonovich et al. 2025). Besides the item a step knows its kind and the time until the next
    step, or until the moment asked at; without times or kinds it does without.

    Learns on a GPU where there is one (mixed precision), else on the CPU; 16 to 36 thousand events a second on one
    core with bfloat16 at 64 dimensions and 3,400 items. On a CPU the same seed, data and one thread give the same
    model. Needs PyTorch and onnx to learn, onnxruntime alone to score. For catalogues up to some 100,000 items and
    histories where order matters; nobody is inside the model, and strangers are not served.

    Example:
        >>> import pandas as pd
        >>> week = pd.DataFrame({"user_id": list("aaabbb"), "item_id": list("xyzxyz"), "at": [1, 2, 3] * 2})
        >>> model = CausalTransformer(dim=8, epochs=60).fit(Interactions.from_frame(week))
        >>> from data.histories import Step
        >>> asked = Histories.of_steps(model.items, [[Step("x", at=1), Step("y", at=2)]], now=3)
        >>> model.items.ids(model.recommend(asked, 1).items[0])
        ['z']
    """

    name = "sequence"
    _arrays = ("item_vectors", "gap_vectors", "kind_vectors")
    _values = ("kinds", "timed", "epochs_learnt", "ndcg_by_epoch", "graph_sha256")

    item_vectors: np.ndarray
    """float32 of shape (n_items, dim); they are read as steps, and score what comes next."""
    gap_vectors: np.ndarray
    """float32 of shape (N_GAPS, dim)."""
    kind_vectors: np.ndarray
    """float32 of shape (n_kinds + 1, dim); the last is of kinds that are not known."""
    kinds: list[str]
    """Names of the kinds of events."""
    timed: bool
    """Whether there was time to learn from: gaps of more than one class."""
    epochs_learnt: int
    """Passes over the data that made the weights."""
    ndcg_by_epoch: list[float]
    """NDCG@10 on the last items that were held out for early stopping; empty where `epochs` was given."""
    graph_sha256: str
    graph: bytes
    """The network in ONNX: `model.onnx` in the model's folder."""

    def __init__(
        self,
        *,
        dim: int = 64,
        layers: int = 2,
        heads: int = 2,
        positions: int = 100,
        dropout: float | None = None,
        gated: bool = False,
        loss: Literal["softmax", "gbce"] = "softmax",
        negatives: int | None = None,
        epochs: int | None = None,
        minutes: float | None = None,
        seed: int = 0,
    ) -> None:
        """Choose.

        Args:
            dim: Length of the vectors.
            layers: Blocks.
            heads: Of attention; `dim` is a multiple.
            positions: Steps that are read, the last of each history.
            dropout: Share of values hidden while learning. By default 0.2 where people did 50 things or more on
                average, and 0.5 where they did fewer, as Kang and McAuley set it for dense and sparse data.
            gated: Blocks with gates and SwiGLU.
            loss: "softmax" or "gbce".
            negatives: Items that the right one is held against. By default all with softmax up to 20,000 items,
                else a sample of 1,024.
            epochs: Passes over all that is known. By default a last item of up to 5,000 people is held out and
                learning stops when NDCG@10 on them no longer rises.
            minutes: The most that learning may take, to the end of a step.
            seed: Of the random numbers.

        Raises:
            DataError: `dim` is no multiple of `heads`, or no such loss.
        """
        if dim % heads:
            raise DataError(f"dim is {dim}, no multiple of {heads} heads. Choose {heads * (dim // heads + 1)}.")
        if loss not in ("softmax", "gbce"):
            raise DataError(f"loss is {loss!r}; choose 'softmax' or 'gbce'.")
        self.dim = dim
        self.layers = layers
        self.heads = heads
        self.positions = positions
        self.dropout = dropout
        self.gated = gated
        self.loss = loss
        self.negatives = negatives
        self.epochs = epochs
        self.minutes = minutes
        self.seed = seed

    def _fit(self, interactions: Interactions) -> None:
        from models.recommenders.sequence import fit, graph  # noqa: PLC0415 - only learning needs PyTorch and onnx

        steps = Histories.from_interactions(interactions)
        gaps = gap_classes(steps)
        inner = np.setdiff1d(np.arange(len(gaps)), steps.indptr[1:] - 1)
        self.kinds = list(steps.kinds)
        self.timed = len(np.unique(gaps[inner])) > 1
        recipe = fit.Recipe(**{**self.params, "dropout": self._dropout(interactions)})
        learnt = fit.learn(
            fit.Steps(
                indptr=steps.indptr,
                item=steps.item.astype(np.int64),
                gap=gaps if self.timed else np.zeros_like(gaps),
                kind=steps.kind.astype(np.int64),
                n_items=len(self.items),
                n_gaps=N_GAPS,
                n_kinds=len(self.kinds),
            ),
            recipe,
            self._checkpoint,
        )
        self.item_vectors = learnt.weights["items.weight"][:-1]
        self.gap_vectors, self.kind_vectors = learnt.weights["gaps.weight"], learnt.weights["kinds.weight"]
        self.epochs_learnt, self.ndcg_by_epoch = learnt.epochs, list(learnt.ndcg)
        self._use(graph.as_onnx(learnt.weights, layers=self.layers, heads=self.heads, gated=self.gated))
        fit.check_equal(learnt, recipe, self._run, AGREEMENT)

    def _dropout(self, interactions: Interactions) -> float:
        if self.dropout is not None:
            return self.dropout
        dense = len(interactions) >= DENSE_EVENTS * len(np.unique(interactions.user))
        return DENSE_DROPOUT if dense else SPARSE_DROPOUT

    def _use(self, serialised: bytes) -> None:
        self.graph, self.graph_sha256 = serialised, sha256(serialised).hexdigest()
        self.__dict__.pop("_session", None)

    @cached_property
    def _session(self) -> InferenceSession:
        import onnxruntime  # noqa: PLC0415 - a saved model can be loaded, checked and moved without

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(self.graph, options, providers=["CPUExecutionProvider"])

    def _run(self, steps: np.ndarray, last: np.ndarray) -> np.ndarray:
        wanted: np.ndarray = self._session.run(["wanted"], {"steps": steps, "last": last})[0]
        return wanted

    def wanted(self, histories: Histories) -> np.ndarray:
        """The vector that each row's next item is scored with, float32 of shape (n, dim); 0 for empty rows."""
        length = np.minimum(np.diff(histories.indptr), self.positions)
        wanted = np.zeros((len(histories), self.dim), np.float32)
        gaps = gap_classes(histories) if self.timed else np.zeros(len(histories.item), np.int64)
        known = {name: code for code, name in enumerate(self.kinds)}
        codes = np.array([known.get(name, len(known)) for name in histories.kinds], np.int64)
        for rows in alike(length, STEPS_AT_ONCE):
            at, inside = rectangle(histories.indptr[rows + 1] - length[rows], length[rows])
            at = at[inside]
            steps = np.zeros((*inside.shape, self.dim), np.float32)
            steps[inside] = (
                self.item_vectors[histories.item[at]] * np.float32(self.dim**0.5)
                + self.gap_vectors[gaps[at]]
                + self.kind_vectors[codes[histories.kind[at]]]
            )
            wanted[rows] = self._run(steps, length[rows, None] - 1)
        return wanted

    def _score(self, histories: Histories, _groups: Groups | None) -> np.ndarray:
        scores: np.ndarray = self.wanted(histories) @ self.item_vectors.T
        scores[np.diff(histories.indptr) == 0] = -np.inf
        return scores

    def _similar(self, codes: np.ndarray) -> np.ndarray:
        V = self.item_vectors
        norms = np.maximum(np.linalg.norm(V, axis=1), np.finfo(np.float32).tiny)
        cosine: np.ndarray = V[codes] @ V.T / (norms[codes, None] * norms)
        return cosine

    def _drops(self, history: Histories, codes: np.ndarray) -> np.ndarray:
        """By scoring the history without each of the items that are read; the others do not move the scores."""
        distinct = np.unique(history.item)
        moving = np.flatnonzero(np.isin(distinct, history.item[-self.positions :]))
        copies = history[np.zeros(len(moving), np.int64)]
        without = copies.where(copies.item != np.repeat(distinct[moving], len(history.item)))
        V = self.item_vectors[codes]
        drops = np.zeros((len(codes), len(distinct)))
        drops[:, moving] = V @ (self.wanted(history) - self.wanted(without)).T
        drops[:, moving[np.diff(without.indptr) == 0]] = 0  # nothing is left, and nothing is said of strangers
        return drops

    def _save_more(self, folder: Path) -> None:
        (folder / "model.onnx").write_bytes(self.graph)

    def _load_more(self, folder: Path) -> None:
        known = self.graph_sha256
        self._use((folder / "model.onnx").read_bytes())
        if self.graph_sha256 != known:
            raise ModelFileError(f"{folder / 'model.onnx'} was changed. Fetch the version again, or train anew.")
