"""The send-time model as an MLflow model: what people did in, their best hours and channels out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from models.timing import HOURS, Engagement, Timing


class SendTimeModel(PythonModel):
    """`predict` gives each row its best local hour and channel.

    A row holds lists: `channel`, `hour` and `answered`, of a person's messages, and `active`, their hours in the shop.
    """

    def load_context(self, context: Any) -> None:
        """Read the version's folder."""
        self.model = Timing.load(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """best_hour, best_channel, and the open_rate there with its interval (90 %), a row per row asked about."""
        channels = self.model.channels
        told = Engagement.from_lists(channels, model_input.to_dict("records"))
        wanted, reachable = np.zeros((told.n, HOURS), bool), np.ones((told.n, len(channels)), bool)
        plan = self.model.plan(told, wanted=wanted, reachable=reachable)
        return pd.DataFrame(
            {
                "best_hour": plan.best_hour,
                "open_rate": plan.open_rate,
                "low": plan.low,
                "high": plan.high,
                "best_channel": [channels[code] for code in plan.channel],
            },
            index=model_input.index,
        )


set_model(SendTimeModel())
