"""What the sequence recommender promises of its own, beside the contract of all."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from recommender_contract import RecommenderContract

from data.errors import DataError, ModelFileError
from data.histories import Histories, Step
from data.interactions import Interactions
from data.vocabulary import Vocabulary
from models.recommenders.sequence import CausalTransformer
from models.recommenders.sequence import recommender as module

HOUR = 3_600


@pytest.fixture(scope="module")
def rounds() -> Interactions:
    """120 people who walk round 15 items, each from a place of their own, a step an hour."""
    rng = np.random.default_rng(3)
    user, step = np.divmod(np.arange(120 * 12), 12)
    item = (rng.integers(0, 15, 120)[user] + step) % 15
    return Interactions.from_frame(
        pd.DataFrame({"user_id": user.astype(str), "item_id": [f"{i:02d}" for i in item], "at": step * HOUR})
    )


def tiny(**params):
    return CausalTransformer(**{"dim": 16, "layers": 1, "positions": 20, "dropout": 0.2, "epochs": 3, **params})


def walk(model, *items: str, gap: int = HOUR, kind: str = "interaction") -> Histories:
    steps = [Step(item, at=place * gap, kind=kind) for place, item in enumerate(items)]
    return Histories.of_steps(model.items, [steps], now=len(items) * gap)


class TestCausalTransformer(RecommenderContract):
    recall_on_movielens = (0.03, 0.3)  # after three epochs

    def make(self):
        return tiny()


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"gated": True},
        {"negatives": 10},
        {"loss": "gbce", "negatives": 5, "epochs": 160},
        {"layers": 2, "heads": 4},
    ],
)
def test_learns_what_comes_next(rounds, params):
    model = tiny(**{"epochs": 30, **params}).fit(rounds)
    asked = Histories.of_steps(
        model.items, [[Step(f"{(start + n) % 15:02d}", at=n * HOUR) for n in range(5)] for start in range(15)],
        now=5 * HOUR,
    )  # fmt: skip
    found = model.recommend(asked, 1).items[:, 0]
    assert (found == (np.arange(15) + 5) % 15).mean() > 0.9


def test_order_matters(rounds):
    model = tiny(epochs=90).fit(rounds)
    there = model.recommend(walk(model, "03", "04", "05"), 1).items[0, 0]
    back = model.recommend(walk(model, "05", "04", "03"), 1).items[0, 0]
    assert there == 6
    assert back != 6


def test_the_time_since_the_last_step_matters():
    rng = np.random.default_rng(0)
    soon = rng.random(200) < 0.5
    rows = [
        {"user_id": f"{user:03d}", "item_id": item, "at": at}
        for user, is_soon in enumerate(soon)
        for item, at in [("start", 0), ("again", 60) if is_soon else ("new", 90 * 24 * HOUR)]
    ]
    model = tiny(epochs=20).fit(Interactions.from_frame(pd.DataFrame(rows)))
    assert model.timed
    a_minute, a_season = (
        Histories.of_steps(model.items, [[Step("start", at=0)]], now=now) for now in (60, 90 * 24 * HOUR)
    )
    assert model.items.ids(model.recommend(a_minute, 1).items[0]) == ["again"]
    assert model.items.ids(model.recommend(a_season, 1).items[0]) == ["new"]


def test_the_kind_of_a_step_matters_and_an_unknown_kind_does_not_hurt():
    rng = np.random.default_rng(0)
    rows = [
        {"user_id": f"{user:03d}", "item_id": item, "at": at, "kind": kind}
        for user, bought in enumerate(rng.random(200) < 0.5)
        for item, at, kind in [
            ("phone", 0, "order" if bought else "product_viewed"),
            ("case" if bought else "other phone", HOUR, "product_viewed"),
        ]
    ]
    model = tiny(epochs=20).fit(Interactions.from_frame(pd.DataFrame(rows)))
    assert not model.timed
    for kind, next_item in (("order", "case"), ("product_viewed", "other phone")):
        assert model.items.ids(model.recommend(walk(model, "phone", kind=kind), 1).items[0]) == [next_item]
    assert np.isfinite(model.recommend(walk(model, "phone", kind="unheard of"), 2).scores).all()


def test_only_the_last_positions_are_read(rounds):
    model = tiny(positions=5).fit(rounds)
    long = walk(model, *[f"{n % 15:02d}" for n in range(10_000)])
    short = walk(model, *[f"{n % 15:02d}" for n in range(9_995, 10_000)])
    assert_allclose(model._score(long, None), model._score(short, None), rtol=1e-5, atol=1e-6)


def test_a_row_is_scored_alike_alone_and_among_longer_ones(rounds):
    model = tiny(gated=True).fit(rounds)
    rows = Histories.from_interactions(rounds)
    rows = rows.where(np.random.default_rng(0).random(len(rows.item)) < 0.4)
    together = model._score(rows, None)
    for row in (0, 17, 119):
        assert_allclose(model._score(rows[np.array([row])], None)[0], together[row], rtol=1e-4, atol=1e-5)


def test_learning_stops_by_itself_and_keeps_the_best_epoch(rounds):
    model = tiny(epochs=None).fit(rounds)
    assert len(model.ndcg_by_epoch) >= model.epochs_learnt
    assert model.ndcg_by_epoch[model.epochs_learnt - 1] == max(model.ndcg_by_epoch)
    assert max(model.ndcg_by_epoch) > 0.5


def test_what_found_nothing_to_learn_is_fitted_again_as_it_was_judged(rounds):
    once = Interactions.from_frame(pd.DataFrame({"user_id": list("abcd"), "item_id": list("wxyz"), "at": [0] * 4}))
    model = tiny(epochs=None).fit(once)
    assert model.epochs_learnt == 0  # nobody did two things, so that nothing comes next
    assert tiny(epochs=0).fit(rounds).epochs_learnt == 0


@pytest.fixture
def interrupt(monkeypatch):
    """Makes learning stop, as by Ctrl-C, in the epoch after so many; None lets it run."""
    from models.recommenders.sequence import fit

    epoch = fit._epoch

    def after(n_epochs):
        def interrupted(run, *rest):
            if run.epoch == n_epochs:
                raise KeyboardInterrupt
            epoch(run, *rest)

        monkeypatch.setattr(fit, "_epoch", interrupted)

    return after


def test_learning_that_was_cut_off_goes_on_to_the_same_end(rounds, tmp_path, interrupt):
    whole = tiny(epochs=None).fit(rounds)
    file = tmp_path / "checkpoint.npz"
    for n_epochs in (2, 3):
        interrupt(n_epochs)
        with pytest.raises(KeyboardInterrupt):
            tiny(epochs=None, minutes=10 + n_epochs).fit(rounds, checkpoint=file)
        assert file.exists()
    interrupt(None)
    model = tiny(epochs=None).fit(rounds, checkpoint=file)
    assert not list(tmp_path.iterdir())
    assert_array_equal(model.item_vectors, whole.item_vectors)
    assert model.ndcg_by_epoch == whole.ndcg_by_epoch


def test_a_checkpoint_of_something_else_is_not_used(rounds, tmp_path, interrupt):
    file = tmp_path / "checkpoint.npz"
    interrupt(1)
    with pytest.raises(KeyboardInterrupt):
        tiny().fit(replace(rounds, item=14 - rounds.item), checkpoint=file)
    interrupt(None)
    assert_array_equal(tiny().fit(rounds, checkpoint=file).item_vectors, tiny().fit(rounds).item_vectors)


def test_a_checkpoint_of_a_smaller_catalogue_is_not_used(rounds, tmp_path, interrupt):
    file = tmp_path / "checkpoint.npz"
    interrupt(1)
    with pytest.raises(KeyboardInterrupt):
        tiny().fit(rounds, checkpoint=file)
    interrupt(None)
    larger = replace(rounds, items=Vocabulary([*rounds.items.all_ids, "nobody touched it yet"]))
    assert tiny().fit(larger, checkpoint=file).item_vectors.shape[0] == 16


@pytest.mark.parametrize("params", [{}, {"gated": True}, {"negatives": 10}, {"loss": "gbce"}])
def test_learning_and_judging_stay_on_the_networks_device(rounds, params, monkeypatch):
    """PyTorch's meta device, which knows shapes and types and no values, stands for a GPU.

    So mixed precision and the fused optimiser are not tried, nor what learning gives.
    """
    import contextlib

    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    from models.recommenders.sequence import fit, network

    monkeypatch.setattr(torch, "autocast", lambda *_args, **_kwargs: contextlib.nullcontext())
    plain = torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda *args, **kwargs: plain(*args, **{**kwargs, "fused": False}))
    monkeypatch.setattr(fit, "_dtype", lambda _device: torch.bfloat16)
    monkeypatch.setitem(network.CELLS_AT_ONCE, "meta", 1_000)
    recipe = fit.Recipe(**{**tiny(**params).params, "epochs": None})
    taken = Histories.from_interactions(rounds)
    kind, gap = np.zeros_like(taken.item, np.int64), np.ones_like(taken.item, np.int64)
    steps = fit.Steps(taken.indptr, taken.item.astype(np.int64), gap, kind, n_items=15, n_gaps=32, n_kinds=1)
    people = fit._held_out(steps, recipe)
    windows = fit._windows(steps, recipe.positions, people)
    batch = next(fit._batches(steps, windows, np.random.default_rng(0)))

    class OneDevice(TorchDispatchMode):
        def __torch_dispatch__(self, func, _types, args=(), kwargs=None):
            tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor) and leaf.dim()]
            assert len({tensor.device for tensor in tensors}) < 2, func
            return func(*args, **(kwargs or {}))

    run = fit._Run.start(steps, recipe, torch.device("meta"))
    with OneDevice():
        for _ in range(2):
            fit._loss(run.network, batch, recipe).backward()
            run.update()
        gain = fit._gain(run.average, steps, steps.indptr[people], steps.indptr[people + 1] - 1)
    assert {tensor.device.type for tensor in (gain, *run.average.parameters())} == {"meta"}


def test_time_for_learning_is_kept(rounds):
    model = tiny(epochs=100_000, minutes=0.02).fit(rounds)
    assert 1 <= model.epochs_learnt < 100_000


def test_a_graph_that_says_something_else_is_refused(rounds, monkeypatch):
    monkeypatch.setattr(module, "AGREEMENT", 1e-12)
    with pytest.raises(ModelFileError, match=r"onnxruntime and PyTorch differ by .*e-"):
        tiny().fit(rounds)


def test_a_changed_graph_is_caught(rounds, tmp_path):
    tiny().fit(rounds).save(tmp_path / "model")
    file = tmp_path / "model" / "model.onnx"
    file.write_bytes(file.read_bytes().replace(b"Sigmoid", b"sigmoid").replace(b"Gelu", b"gelu"))
    with pytest.raises(ModelFileError, match="was changed"):
        CausalTransformer.load(tmp_path / "model")


def test_scoring_needs_onnxruntime_and_no_torch(rounds, tmp_path):
    tiny().fit(rounds).save(tmp_path / "model")
    code = (
        "import sys; from pathlib import Path; from scipy import sparse; from models.recommenders.sequence import *\n"
        f"model = CausalTransformer.load(Path({str(tmp_path / 'model')!r}))\n"
        "row = sparse.csr_matrix(([1.0], ([0], [0])), shape=(1, 15))\n"
        "model.recommend(row, 3); model.similar([0], 3); model.reasons(row, [1])\n"
        "assert not {'torch', 'onnx'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_wrong_options_are_refused_with_a_remedy():
    with pytest.raises(DataError, match=r"dim is 30, no multiple of 4 heads\. Choose 32"):
        CausalTransformer(dim=30, heads=4)
    with pytest.raises(DataError, match="'bpr'; choose 'softmax' or 'gbce'"):
        CausalTransformer(loss="bpr")
