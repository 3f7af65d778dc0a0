"""The value model as an MLflow model: a frame of features in, expected money and orders out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from models.worth import CustomerValue


class ValueModel(PythonModel):
    """`predict` gives each row of features what that customer is expected to spend over the horizon."""

    def load_context(self, context: Any) -> None:
        """Read the version's folder."""
        self.model = CustomerValue.load(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """value, value_low, value_high and orders, a row for each of `model_input`; NaN for who never ordered."""
        found = self.model.predict(model_input)
        return pd.DataFrame(
            {"value": found.value, "value_low": found.low, "value_high": found.high, "orders": found.orders},
            index=model_input.index,
        )


set_model(ValueModel())
