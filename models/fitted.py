"""Models that are asked only after they learnt."""

from __future__ import annotations

from typing import ClassVar

from data.errors import NotFittedError


class Fitted:
    """Base of the models that `fit` or `load` gives what they answer from; until then they lack it."""

    _answers_from: ClassVar[str] = "features"
    """The attribute that only one that learnt has."""

    def _check_fitted(self) -> None:
        if not hasattr(self, self._answers_from):
            name = getattr(self, "name", type(self).__name__)
            raise NotFittedError(f"{name} has not learnt yet: call fit(...) or load(folder) first.")
