"""Learning the network: windows of what people did, early stopping on NDCG, checkpoints to go on from."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from data.errors import ModelFileError
from data.files import replacing
from models.recommenders.sequence.network import Network, sampled_loss, softmax_loss
from models.recommenders.sequence.windows import STEPS_AT_ONCE, alike, rectangle

LEARNING_RATE = 1e-3
WARM_UP_STEPS = 100
MEMORY_STEPS = 1_000
"""The weights that are kept are a running mean over about the last so many steps, fewer at the start."""
BATCH_EVENTS = (256, 1_600)
"""Events in a step of learning, the least and the most; between them a 32nd of all."""
MOST_EPOCHS = 200
PATIENCE = 4
"""Epochs without a better NDCG after which learning stops."""
VALIDATED_USERS = 5_000
FULL_SOFTMAX_ITEMS = 20_000
"""In larger catalogues the softmax is sampled unless told otherwise ..."""
SAMPLED_NEGATIVES = 1_024
"""... with so many items."""
CELLS_TO_JUDGE = 2**24
"""Steps x items that are judged at once: bounds the memory, on a GPU too."""
CONTEXT_DROPOUT = 0.1
"""Share of steps whose time and kind are hidden, so that histories without them can be asked about too."""
K = 10
log = logging.getLogger("attune")


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters; `CausalTransformer` tells what they mean."""

    dim: int
    layers: int
    heads: int
    positions: int
    dropout: float
    gated: bool
    loss: Literal["softmax", "gbce"]
    negatives: int | None
    epochs: int | None
    minutes: float | None
    seed: int


@dataclass(frozen=True, eq=False)
class Steps:
    """What all people did, one after the other; person p is the part indptr[p]:indptr[p + 1].

    Attributes:
        indptr: int64 of shape (n_people + 1,).
        item: int64 codes of shape (n,).
        gap: int64 classes of the time until the next step, shape (n,).
        kind: int64 codes of shape (n,).
        n_items: Classes of each, as for gaps and kinds.
        n_gaps: See n_items.
        n_kinds: See n_items.
    """

    indptr: np.ndarray
    item: np.ndarray
    gap: np.ndarray
    kind: np.ndarray
    n_items: int
    n_gaps: int
    n_kinds: int


@dataclass(frozen=True, eq=False)
class Learnt:
    """The weights, and how they came about.

    Attributes:
        weights: The network's parameters by name, float32.
        epochs: Passes over the data that made them.
        ndcg: NDCG@10 on the people's held-out last items by epoch; empty where none were held out.
    """

    weights: dict[str, np.ndarray]
    epochs: int
    ndcg: tuple[float, ...]


def learn(steps: Steps, recipe: Recipe, checkpoint: Path | None = None) -> Learnt:
    """Learn what comes next.

    Without `recipe.epochs` the last items of up to VALIDATED_USERS people are held out, and learning stops when NDCG
    on them does not rise any more; the weights of the best epoch are kept.

    Args:
        steps: What people did.
        recipe: The hyperparameters.
        checkpoint: A file to go on from, written after each epoch, gone at the end. One that belongs to other data
            or another recipe is not used.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    held_out = _held_out(steps, recipe)
    windows = _windows(steps, recipe.positions, held_out)
    with torch.random.fork_rng([torch.cuda.current_device()] if device.type == "cuda" else []):
        torch.manual_seed(recipe.seed)
        run = _Run.start(steps, recipe, device)
        identity = _identity(steps, recipe)
        if checkpoint is not None and checkpoint.exists():
            run.resume(checkpoint, identity)
        most = MOST_EPOCHS if recipe.epochs is None else recipe.epochs
        while len(windows) and run.epoch < most and not run.stale and not run.out_of_time(recipe.minutes):
            _epoch(run, steps, windows, recipe)
            if len(held_out):
                run.judge(_ndcg(run.average, steps, held_out, recipe.positions))
            log.info(
                "sequence: epoch %d, loss %.3f, %s%.0f events a second",
                run.epoch, run.loss, f"NDCG@{K} {run.ndcg[-1]:.4f}, " if run.ndcg else "", run.speed,
            )  # fmt: skip
            if checkpoint is not None:
                run.write(checkpoint, identity)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return Learnt(run.best or _numpy(run.average), run.best_epoch or run.epoch, tuple(run.ndcg))


@dataclass(eq=False)
class _Run:
    """All that changes while learning."""

    network: Network
    average: Network
    optimizer: torch.optim.Optimizer
    best: dict[str, np.ndarray] = field(default_factory=dict)
    best_epoch: int = 0
    ndcg: list[float] = field(default_factory=list)
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    loss: float = float("nan")
    speed: float = float("nan")

    @classmethod
    def start(cls, steps: Steps, recipe: Recipe, device: torch.device) -> _Run:
        network = _network(recipe, steps.n_items, steps.n_gaps, steps.n_kinds).to(device)
        optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), fused=True)
        return cls(network=network, average=deepcopy(network).eval(), optimizer=optimizer)

    @property
    def stale(self) -> bool:
        return len(self.ndcg) - self.best_epoch >= PATIENCE

    def out_of_time(self, minutes: float | None) -> bool:
        return minutes is not None and self.seconds > minutes * 60

    def judge(self, ndcg: float) -> None:
        if not self.ndcg or ndcg > max(self.ndcg):
            self.best, self.best_epoch = _numpy(self.average), self.epoch
        self.ndcg.append(ndcg)

    def update(self) -> None:
        """A step along the gradient."""
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (self.step + 1) / WARM_UP_STEPS)
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        fresh = max(1 / MEMORY_STEPS, 10 / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), fresh)

    def write(self, file: Path, identity: str) -> None:
        """All of it as one npz; nothing in it is pickled."""
        arrays = {f"network/{name}": value for name, value in _numpy(self.network).items()}
        arrays |= {f"average/{name}": value for name, value in _numpy(self.average).items()}
        arrays |= {f"best/{name}": value for name, value in self.best.items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            arrays |= {f"moments/{number}/{name}": value.cpu().numpy() for name, value in state.items()}
        about = {name: getattr(self, name) for name in ("best_epoch", "ndcg", "epoch", "step", "seconds")}
        arrays["about"] = np.array(json.dumps({"identity": identity, **about}))
        with replacing(file) as beside, beside.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)

    def resume(self, file: Path, identity: str) -> None:
        """Go on where `write` left off, if it was about the same."""
        with np.load(file, allow_pickle=False) as stored:
            about: dict[str, Any] = json.loads(str(stored["about"]))
            if about.pop("identity") != identity:
                log.info("sequence: %s is of other data or another recipe; starting anew", file)
                return
            parts: dict[str, dict[str, np.ndarray]] = {"network": {}, "average": {}, "best": {}, "moments": {}}
            for name in stored.files:
                if name != "about":
                    part, _, key = name.partition("/")
                    parts[part][key] = stored[name]
        for name, value in about.items():
            setattr(self, name, value)
        self.best = parts["best"]
        for model, part in ((self.network, "network"), (self.average, "average")):
            model.load_state_dict({name: torch.from_numpy(value) for name, value in parts[part].items()})
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in parts["moments"].items():
            number, _, key = name.partition("/")
            moments.setdefault(int(number), {})[key] = torch.from_numpy(value)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})


def _network(recipe: Recipe, n_items: int, n_gaps: int, n_kinds: int) -> Network:
    return Network(
        n_items=n_items,
        n_gaps=n_gaps,
        n_kinds=n_kinds,
        dim=recipe.dim,
        layers=recipe.layers,
        heads=recipe.heads,
        positions=recipe.positions,
        dropout=recipe.dropout,
        gated=recipe.gated,
    )


def _epoch(run: _Run, steps: Steps, windows: np.ndarray, recipe: Recipe) -> None:
    """One pass over all windows; the same epoch draws the same, wherever learning was cut off before."""
    started = time.monotonic()
    torch.manual_seed(recipe.seed * 1_000 + run.epoch)
    rng = np.random.default_rng([recipe.seed, run.epoch])
    run.network.train()
    losses = []
    for batch in _batches(steps, windows, rng):
        loss = _loss(run.network, batch, recipe)
        loss.backward()
        run.update()
        losses.append(loss.detach())
        if run.out_of_time(None if recipe.minutes is None else recipe.minutes - (time.monotonic() - started) / 60):
            break
    took = time.monotonic() - started
    run.epoch, run.seconds = run.epoch + 1, run.seconds + took
    run.loss, run.speed = float(torch.stack(losses).mean()), int((windows[:, 1] - windows[:, 0] - 1).sum()) / took


def _loss(network: Network, batch: tuple[np.ndarray, ...], recipe: Recipe) -> torch.Tensor:
    """Of the steps of a batch that something follows."""
    device = network.positions.device
    dtype = _dtype(device)
    *codes, target = batch
    places = np.flatnonzero(target >= 0)  # numbers, not a mask: a GPU need not tell how many there are
    wanted = _on(device, target.ravel()[places])
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        hidden = network(network.embedded(*(_on(device, of) for of in codes)))
    hidden = hidden.flatten(0, 1)[_on(device, places)].float()
    V = network.items.weight[:-1]
    negatives = recipe.negatives or (SAMPLED_NEGATIVES if len(V) > FULL_SOFTMAX_ITEMS else None)
    if negatives is None and recipe.loss == "softmax":
        return softmax_loss(hidden, V, wanted, dtype)
    return sampled_loss(hidden, V, wanted, loss=recipe.loss, negatives=negatives or SAMPLED_NEGATIVES)


def _windows(steps: Steps, positions: int, held_out: np.ndarray) -> np.ndarray:
    """Parts of people's histories with up to `positions` steps and the one after: int64 (n, 2), cut from the end."""
    ends = steps.indptr[1:].copy()
    ends[held_out] -= 1
    found = []
    for start, end in zip(steps.indptr[:-1], ends, strict=True):
        stops = np.arange(end, start + 1, -positions)
        found.append(np.column_stack([np.maximum(start, stops - positions - 1), stops]))
    return np.concatenate(found) if found else np.empty((0, 2), np.int64)


def _batches(steps: Steps, windows: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, ...]]:
    """Items, gaps, kinds and targets (-1 at the end), int64 (n, length) each, of windows about equally long."""
    length = windows[:, 1] - windows[:, 0] - 1
    size = int(np.clip(length.sum() // 32, *BATCH_EVENTS))
    groups = alike(length * (1 + rng.random(len(length)) / 10), size)  # about as long, and others each time
    for number in rng.permutation(len(groups)):
        at, inside = rectangle(windows[groups[number], 0], length[groups[number]])
        told = inside & (rng.random(at.shape) >= CONTEXT_DROPOUT)
        yield (
            np.where(inside, steps.item[at], steps.n_items),
            np.where(told, steps.gap[at], 0),
            np.where(told, steps.kind[at], steps.n_kinds),
            np.where(inside, steps.item[np.minimum(at + 1, len(steps.item) - 1)], -1),
        )


def _held_out(steps: Steps, recipe: Recipe) -> np.ndarray:
    """The people whose last item is for validation: some of those with something to learn from besides."""
    if recipe.epochs is not None:
        return np.empty(0, np.int64)
    able = np.flatnonzero(np.diff(steps.indptr) >= 3)
    return np.sort(np.random.default_rng(recipe.seed).permutation(able)[:VALIDATED_USERS])


@torch.no_grad()
def _ndcg(network: Network, steps: Steps, people: np.ndarray, positions: int) -> float:
    """Mean NDCG@10 of people's last items, after what came before, among the items that are not in that."""
    ends = steps.indptr[people + 1] - 1
    starts = np.maximum(steps.indptr[people], ends - positions)
    size = min(STEPS_AT_ONCE, CELLS_TO_JUDGE // steps.n_items)
    gains = [_gain(network, steps, starts[group], ends[group]) for group in alike(ends - starts, max(1, size))]
    return float(torch.stack(gains).sum()) / len(people)


def _gain(network: Network, steps: Steps, starts: np.ndarray, ends: np.ndarray) -> torch.Tensor:
    """Summed gain of some people's steps at `ends` after those from `starts` on: 1 / log2(rank + 1) to the Kth rank."""
    device = network.positions.device
    dtype = _dtype(device)
    at, inside = rectangle(starts, ends - starts)
    item, gap, kind = (
        _on(device, np.where(inside, codes[at], nothing))
        for codes, nothing in ((steps.item, steps.n_items), (steps.gap, 0), (steps.kind, steps.n_kinds))
    )
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        hidden = network(network.embedded(item, gap, kind))
    last = hidden[_on(device, np.arange(len(ends))), _on(device, ends - starts - 1)].float()
    scores = last @ network.items.weight.T
    right = scores.gather(1, _on(device, steps.item[ends])[:, None])
    scores = scores.scatter(1, item, -torch.inf)[:, :-1]  # the last column is padding's
    above = (scores > right).sum(1)
    return torch.where(above < K, 1 / torch.log2(above + 2.0), 0.0).sum(dtype=torch.float64)


def _on(device: torch.device, array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).to(device)


def _dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor multiplies it: five times as fast as float32 there."""
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.bfloat16 if able else torch.float32


def _numpy(network: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().numpy().copy() for name, value in network.state_dict().items()}


def _identity(steps: Steps, recipe: Recipe) -> str:
    limitless = replace(recipe, minutes=None)  # how long it may take says nothing of what is learnt
    sizes = (steps.n_items, steps.n_gaps, steps.n_kinds)  # an item that nobody touched yet has a vector too
    digest = sha256(json.dumps([asdict(limitless), sizes]).encode())
    for array in (steps.indptr, steps.item, steps.gap, steps.kind):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@torch.no_grad()
def check_equal(
    learnt: Learnt, recipe: Recipe, run: Callable[[np.ndarray, np.ndarray], np.ndarray], tolerance: float
) -> None:
    """Ask the exported graph and the network about the same random steps of several lengths.

    Raises:
        ModelFileError: they differ by more than `tolerance` of the largest value.
    """
    n_items, n_gaps, n_kinds = (len(learnt.weights[f"{table}.weight"]) for table in ("items", "gaps", "kinds"))
    network = _network(recipe, n_items - 1, n_gaps, n_kinds - 1).eval()
    network.load_state_dict({name: torch.from_numpy(value) for name, value in learnt.weights.items()})
    rng = np.random.default_rng(recipe.seed)
    for n, length in ((1, 1), (3, (recipe.positions + 1) // 2), (2, recipe.positions)):
        steps = rng.standard_normal((n, length, recipe.dim), np.float32)
        last = rng.integers(0, length, (n, 1))
        expected = network(torch.from_numpy(steps)).numpy()[np.arange(n), last[:, 0]]
        difference = float(np.abs(run(steps, last) - expected).max() / max(1.0, np.abs(expected).max()))
        if not difference <= tolerance:
            raise ModelFileError(
                f"onnxruntime and PyTorch differ by {difference:.1e} of the largest value (at most {tolerance:.0e}). "
                "Use the versions in constraints.txt."
            )
