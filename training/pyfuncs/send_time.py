"""The send-time model as an MLflow model: what people did in, their best hours and channels out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from models.timing import Timing, choose
from training.examples import engagement


class SendTimeModel(PythonModel):
    """`predict` gives each row its best local hour and channel.

    A row holds lists: `channel`, `hour` and `answered`, of a person's messages, and `active`, their hours in the shop.
    """

    def load_context(self, context: Any) -> None:
        """Read the version's folder."""
        self.model = Timing.load(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """best_hour, open_rate with low and high (90 %), and best_channel, a row for each of `model_input`."""
        told = engagement(self.model.channels, model_input.to_dict("records"))
        rates = self.model.score(told)
        hour = choose(rates.rate, allowed=self.model.hours).hour
        row = np.arange(len(hour))
        channel = self.model.score_channels(told).rate.argmax(axis=1)
        return pd.DataFrame(
            {
                "best_hour": hour,
                "open_rate": rates.rate[row, hour],
                "low": rates.low[row, hour],
                "high": rates.high[row, hour],
                "best_channel": [self.model.channels[code] for code in channel],
            },
            index=model_input.index,
        )


set_model(SendTimeModel())
