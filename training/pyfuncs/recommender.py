"""A recommender as an MLflow model: histories in, ranked item ids and scores out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from models.kinds import histories, ranked_ids
from models.recommenders import load
from training.recipes import Card


class RecommenderModel(PythonModel):
    """`predict` ranks items for each row's `items` (ids of the history, with optional `weights`)."""

    def load_context(self, context: Any) -> None:
        """Read the version's folder."""
        folder = Path(context.artifacts["model"])
        self.model, self.recipe = load(folder), Card.load(folder).recipe

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """One row of `items` and `scores`, best first, for each row of `model_input`; `params["k"]` of them."""
        ranking = self.model.recommend(
            histories(self.model.items, model_input["items"], model_input.get("weights")),
            int((params or {}).get("k", 10)),
            exclude_seen=self.recipe.exclude_seen,
        )
        items = ranked_ids(self.model.items, ranking)
        scores = [row[: len(found)].tolist() for row, found in zip(ranking.scores, items, strict=True)]
        return pd.DataFrame({"items": items, "scores": scores}, index=model_input.index)


set_model(RecommenderModel())
