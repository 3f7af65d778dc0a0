"""The offers as an MLflow model: a frame of features in, expected extra profit of each offer out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from models.offers import USUAL, OfferModel


class OffersModel(PythonModel):
    """`predict` gives each row of features the offer to make and what each offer is expected to bring."""

    def load_context(self, context: Any) -> None:
        """Read the version's folder."""
        self.model = OfferModel.load(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """`offer` (`usual` = as the shop's rule says); OFFER, OFFER_low, OFFER_high: profit more than with no offer."""
        found = self.model.predict(model_input)
        columns = {"offer": np.array([*self.model.arms, USUAL], dtype=object)[self.model.choose(found.profit)]}
        for code, arm in enumerate(self.model.arms[1:], start=1):
            columns |= {
                arm: found.profit[:, code],
                f"{arm}_low": found.low[:, code],
                f"{arm}_high": found.high[:, code],
            }
        return pd.DataFrame(columns, index=model_input.index)


set_model(OffersModel())
