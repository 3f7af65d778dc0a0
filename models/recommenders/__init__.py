"""Recommenders behind one interface: sparse histories in, ranked items out."""

from __future__ import annotations

from pathlib import Path

from data.errors import ModelFileError
from models.recommenders.als import ALS
from models.recommenders.base import Ranking, Recommender, read_about
from models.recommenders.blend import Blend
from models.recommenders.content import Content
from models.recommenders.graph import Graph
from models.recommenders.item_neighbours import ItemNeighbours
from models.recommenders.linear import Linear
from models.recommenders.popularity import Popularity
from models.recommenders.ranker import Ranker
from models.recommenders.repeat_purchase import RepeatPurchase
from models.recommenders.sequence import CausalTransformer

__all__ = ["MODELS", "Ranking", "Recommender", "load"]

MODELS: dict[str, type[Recommender]] = {
    model.name: model
    for model in (
        Popularity,
        RepeatPurchase,
        ItemNeighbours,
        ALS,
        Linear,
        Graph,
        Content,
        CausalTransformer,
        Blend,
        Ranker,
    )
}
"""Every recommender by name."""


def load(folder: Path) -> Recommender:
    """The recommender saved in a folder, whichever it is.

    Raises:
        ModelFileError: the folder is damaged, or its model is unknown to this version of Attune.
    """
    name = read_about(folder)["name"]
    if name not in MODELS:
        raise ModelFileError(f"{folder} holds the model {name!r}; known are {', '.join(MODELS)}. Train it anew.")
    return MODELS[name].load(folder)
