"""The champion of the hours to send at, asked about everybody in bulk."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa

from data.chance import stable_uniform
from data.tables import Tables
from data.workspace import Workspace
from features.hours import habits, zone_of_most
from models.timing import Engagement, Timing
from registry.versions import Registry, Version
from training.send_time import NAME

COLUMNS = pa.schema([
    ("best_send_hour", pa.int64()), ("best_channel", pa.string()), ("time_zone", pa.string()),
    ("open_rate", pa.float64()), ("open_rate_low", pa.float64()), ("open_rate_high", pa.float64()),
    ("send_hour", pa.int64()), ("send_hour_probability", pa.float64()), ("hour_of_everybody", pa.bool_()),
])  # fmt: skip
"""The best hour, by the clock of the zone, the best channel, and what to expect of a message then and there; the hour
to send at, which is another for the share that explores, and its chance; whether nothing is known of their habits."""


@dataclass(frozen=True, eq=False)
class SendTimeChampion:
    """What says when and where to write to everybody, as known at the end of the data.

    Attributes:
        version: Of the registry.
        model: What answers.
        known: The tables as known at the end.
        at: The end.
        usual_zone: The shop's commonest time zone.
        explore: Share of the hours that are drawn evenly.
    """

    version: Version
    model: Timing
    known: Tables
    at: datetime
    usual_zone: str
    explore: float

    @classmethod
    def of(cls, workspace: Workspace, at: datetime) -> Self | None:
        """The champion, fetched and verified; None where there is none.

        Raises:
            ModelFileError: it is damaged.
        """
        found = Registry.of(workspace).champion(NAME, workspace.models_dir)
        if found is None:
            return None
        version, folder = found
        known, model = workspace.checked.as_of(at), Timing.load(folder)
        return cls(version, model, known, at, zone_of_most(known), workspace.settings.send_time.explore)

    def predict(self, users: pd.Series) -> dict[str, pd.Series | np.ndarray]:
        """The `COLUMNS` of customers, by name.

        Args:
            users: Their ids; what lies between the first and the last is read.
        """
        index, channels = pd.Index(users), self.model.channels
        found = habits(self.known, self.at, usual_zone=self.usual_zone, between=(str(index.min()), str(index.max())))
        plan = self.model.plan(
            Engagement.from_frames(index, found.answers, found.active, channels=channels),
            wanted=found.wanted(index),
            reachable=found.reachable(index, channels),
            explore=self.explore,
            draw=stable_uniform(users, salt=f"{NAME} {self.at:%Y-%m-%d}"),
        )
        columns = (
            plan.best_hour,
            pd.Series([channels[code] if code >= 0 else None for code in plan.channel], dtype="str"),
            pd.Series([zone or self.usual_zone for zone in found.zones(index)], dtype="str"),
            plan.open_rate,
            plan.low,
            plan.high,
            plan.choice.hour,
            plan.choice.probability,
            ~plan.own,
        )
        return dict(zip(COLUMNS.names, columns, strict=True))
