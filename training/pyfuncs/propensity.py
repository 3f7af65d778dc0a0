"""A propensity as an MLflow model: a frame of features in, probabilities out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from models.stored import load_propensity


class PropensityModel(PythonModel):
    """`predict` gives each row of features its calibrated probability."""

    def load_context(self, context: Any) -> None:
        """Read the version's folder."""
        self.model = load_propensity(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> np.ndarray:  # noqa: ARG002
        """Probabilities, float64 of shape (n,)."""
        return self.model.predict(model_input)


set_model(PropensityModel())
