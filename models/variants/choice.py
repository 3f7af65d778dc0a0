"""From draws of the posterior to the chance of each variant: that it is the best, and that it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

AGREEING = 2
"""Draws that must name the same variant: one is Thompson sampling as it was first told, more explore less."""
ENOUGH, SURE = 0.01, 0.95
"""Going on is worth little if, this surely, no other variant brings more than this share more."""


@dataclass(frozen=True, eq=False)
class Draws:
    """Posterior draws of what k variants of a slot bring, by context.

    Attributes:
        variant_ids: The variants.
        scores: In log-odds (of money: in mean rewards), float32 (k, 1 + tokens, draws): that of nobody in particular,
            and what each token of the context adds.
        usual: Share of the people with each token, (tokens,).
        logistic: Whether the scores are log-odds.
    """

    variant_ids: tuple[str, ...]
    scores: np.ndarray
    usual: np.ndarray
    logistic: bool

    def best(self, tokens: Sequence[int], among: np.ndarray | None = None) -> np.ndarray:
        """The chance of each variant to be the best for somebody, (k,) or, of some variants, (len(among),).

        It is the share of the draws in which it is.

        Args:
            tokens: Codes of the person's tokens.
            among: Places of the variants that may be shown; by default all.
        """
        asked = self.scores if among is None else self.scores[among]
        total = asked[:, 0] if not len(tokens) else asked[:, [0, *(1 + token for token in tokens)]].sum(axis=1)
        return np.bincount(total.argmax(axis=0), minlength=len(asked)) / self.scores.shape[2]

    def best_of_many(self, codes: np.ndarray) -> np.ndarray:
        """The same for many contexts, their tokens as `Context.codes` gives them: (n, k)."""
        asked, which = np.unique(codes, axis=0, return_inverse=True)
        if not codes.shape[1]:
            return np.broadcast_to(self.best(()), (len(codes), len(self.variant_ids)))
        found = np.array([self.best([code for code in row if code >= 0]) for row in asked])
        return found[which.reshape(-1)]

    def remaining(self, among: np.ndarray | None = None) -> float:
        """What going on may still gain: as a share of what the best variant brings, surely (95 %) not more.

        The "value remaining in the experiment" of Scott (2015, "Multi-armed bandit experiments in the online service
        economy", section 5.2), at the usual context: of (max_v theta_v - theta_b) / theta_b over the draws, b the
        variant with the highest mean, the 95 % quantile.
        """
        asked = self.scores if among is None else self.scores[among]
        total = asked[:, 0] + np.einsum("vtr,t->vr", asked[:, 1:], self.usual.astype(np.float32))
        brings = 1 / (1 + np.exp(-total.astype(np.float64))) if self.logistic else np.maximum(total, 1e-9)
        best = brings[brings.mean(axis=1).argmax()]
        return float(np.quantile((brings.max(axis=0) - best) / best, SURE))

    def enough(self, among: np.ndarray | None = None) -> bool:
        """Whether going on with these variants (by default all) cannot gain more than 1 %."""
        return self.remaining(among) < ENOUGH


def shown(best: np.ndarray, *, floor: float) -> np.ndarray:
    """The chance of each variant to be shown, from that of being the best, (..., k).

    Thompson sampling (1933) shows a variant as often as a draw of the posterior names it the best. Here it is shown as
    often as two draws that agree name it, p^2 / sum of p^2: that explores less, as the reshaped posterior of Chapelle
    and Li (2011, section 4) does, and loses less in campaigns that end. No variant's chance is below the floor; where
    the floors alone would be more than everything, all are shown evenly.

    Example:
        >>> shown(np.array([0.75, 0.25, 0.0]), floor=0.02).round(3).tolist()
        [0.866, 0.114, 0.02]
    """
    agreed = best**AGREEING
    agreed = agreed / agreed.sum(axis=-1, keepdims=True)
    least = min(floor, 1 / best.shape[-1])
    found: np.ndarray = least + (1 - least * best.shape[-1]) * agreed
    return found
