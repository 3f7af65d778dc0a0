"""The variants as an MLflow model: a row per variant and situation in, what it is expected to bring out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from models.variants import VariantModel


class VariantsModel(PythonModel):
    """`predict` tells how much each row's variant is expected to bring with somebody in the row's situation."""

    def load_context(self, context: Any) -> None:
        """Read the version's folder."""
        self.model = VariantModel.load(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """`expected`: the share with the reward, or the money; columns as `VariantModel.predict` has them."""
        return pd.DataFrame({"expected": self.model.predict(model_input)}, index=model_input.index)


set_model(VariantsModel())
