"""What each variant brings with whom: a Bayesian regression per slot whose weights are pooled by learnt priors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import expit, logit

from data.errors import DataError, NotFittedError
from data.files import replacing
from models import saving
from models.variants.belief import Belief, Family, Rows
from models.variants.choice import Draws
from models.variants.context import Context
from models.variants.wording import ATTRIBUTES, WORDS, Variant, hashed

CROSSED = 256
"""Places that pairs of an attribute and a token are hashed to."""
SPREAD: Mapping[str, float] = {
    "slot": 2.0, "word": 0.3, "attribute": 0.2, "token": 0.3, "crossed": 0.1,
    "campaign": 2.0, "own": 0.3, "suits": 0.15,
}  # fmt: skip
"""Standard deviation of the weights of each group, in log-odds, before anything was learnt.

Those of slots and campaigns are not learnt: what all variants of one have in common says nothing of its words."""
GROUPS, OWN = tuple(group for group in SPREAD if group not in {"slot", "campaign"}), ("own", "suits")
"""Those whose spread is learnt; those of single variants."""
WORTH = 2.0
"""Such a spread counts as so many weights that were seen."""
MAX_OWN = 400
"""Weights of single variants and campaigns that are learnt at once; of more, part after part."""
MAX_ROUNDS, STEADY = 30, 0.02
"""Of learning the spreads, and the change of their logarithms below which it ends."""
MIN_REWARDS = 5.0
OF_VARIANT = tuple(field.name for field in fields(Variant))
ARRAYS = "beliefs.npz"


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was shown to whom and what came of it, m rows. No ids of people.

    Attributes:
        variant_id: What was shown, object (m,).
        codes: Tokens of each row, as `Context.codes` gives them, int (m, columns).
        shown: How many impressions a row counts as, (m,).
        reward: How many yeses they brought, or how much money, (m,).
    """

    variant_id: np.ndarray
    codes: np.ndarray
    shown: np.ndarray
    reward: np.ndarray

    @classmethod
    def of_counts(cls, counts: Mapping[str, tuple[float, float]]) -> Self:
        """Of impressions and yeses by variant, whoever saw them."""
        shown, reward = np.array(list(counts.values()), dtype=float).reshape(-1, 2).T
        return cls(np.array(list(counts), dtype=object), np.empty((len(counts), 0), dtype=np.int64), shown, reward)

    def of(self, variant_ids: Collection[str]) -> Self:
        """The rows about these variants."""
        kept = np.isin(self.variant_id, list(variant_ids))
        return replace(self, **{name: getattr(self, name)[kept] for name in ("variant_id", "codes", "shown", "reward")})


@dataclass(frozen=True, eq=False)
class Scores:
    """What is believed of the scores of k variants of a slot.

    Attributes:
        variant_ids: The variants.
        belief: Of the score of each with nobody in particular, and of what each token adds: k (1 + tokens) numbers.
    """

    variant_ids: tuple[str, ...]
    belief: Belief


class VariantModel:
    r"""Bayesian logistic (or linear) regression per slot, with learnt spreads of its weights.

    What variant v of campaign c brings with somebody who has the tokens x is, in log-odds,

        eta = a + s + g_c + w'words_v + u'attributes_v + b_v + sum over t in x of (m_t + k'(attributes_v x t) + d_vt)

    with the whole's rate as a. Every weight is N(0, sigma^2 of its group): s the slot's own level, g the campaign's,
    w and u those of hashed words and attributes, b the variant's own; of the context m what a token does to all, k
    what it does to an attribute, d what it does to one variant. With little evidence the words speak, with much the
    variant's own weights do. The spreads sigma are learnt from the data (empirical Bayes): those that make the data
    likeliest under Laplace's approximation, by MacKay's fixed point (1992, "Bayesian interpolation", eq. 3.17),
    sigma^2 = (sum of squared means + n0 sigma0^2) / (well-determined weights + n0).

    The posterior is Gaussian with its full covariance (Laplace; Chapelle and Li 2011 keep its diagonal alone). What
    is no longer in use is left out of it, so that a slot's words remain and its old variants do not; good to some 50
    variants of a slot at a time.

    Args:
        family: `logistic`, of yeses; `linear`, of money: eta is then in mean rewards and rows are single impressions.

    Example:
        >>> variants = [Variant("a", "headline", text="Save 20%"), Variant("b", "headline", text="A quiet cup")]
        >>> model = VariantModel().fit(variants, Evidence.of_counts({"a": (2000, 100), "b": (2000, 160)}))
        >>> model.draws(model.scores("headline", variants)).best(()).round(2).tolist()
        [0.0, 1.0]
    """

    name = "variants"

    def __init__(self, *, family: Family = "logistic") -> None:
        self.family: Family = family
        self.spread = dict(SPREAD)
        self.context = Context({}, {})
        self.usual = np.zeros(0)
        self.rate, self.scale, self.noise = 0.05, 1.0, 1.0
        self.beliefs: dict[str, Belief] = {}

    def fit(
        self,
        variants: Sequence[Variant],
        evidence: Evidence,
        *,
        context: Context | None = None,
        keep: Collection[str] | None = None,
    ) -> Self:
        """Learn the spreads and the weights.

        Args:
            variants: All that the evidence is about.
            evidence: What came of them.
            context: What its codes mean; by default there are none.
            keep: Variants that may be shown again; of the others only what is common stays. By default all.

        Raises:
            DataError: hardly anything came of anything.
        """
        self.context = context or Context({}, {})
        evidence = evidence.of([variant.variant_id for variant in variants])
        if evidence.reward.sum() < MIN_REWARDS or not (evidence.reward != 0).sum() >= 2:
            raise DataError(
                f"{evidence.shown.sum():,.0f} impressions of variants brought {evidence.reward.sum():g}; at least "
                f"{MIN_REWARDS:g} are needed. Log outcomes of the decisions, or choose another reward in [variants]."
            )
        self._measure(evidence)
        weights = len(self.context.tokens) + 1
        parts = {slot: _parts(found, keep, weights=weights) for slot, found in _by_slot(variants).items()}
        self._learn_spread([(None, max(found, key=len)) for found in parts.values()], evidence, GROUPS)
        earlier = {slot: self._learnt(self._shared(), found[:-1], evidence, ()) for slot, found in parts.items()}
        if any(len(found) > 1 for found in parts.values()):  # words never foretell as well as they fitted
            last = [(earlier[slot], found[-1]) for slot, found in parts.items()]
            self._learn_spread(last, evidence, OWN)
        self.beliefs = {slot: self._learnt(earlier[slot], found[-1:], evidence, keep) for slot, found in parts.items()}
        return self

    def scores(self, slot: str, variants: Sequence[Variant], *, faded: float = 1.0) -> Scores:
        """What is believed of the scores of a slot's variants, new ones included.

        Args:
            slot: Which.
            variants: Those that may be shown.
            faded: How much what was learnt still counts, 1 = as much.
        """
        known, tokens = self.beliefs.get(slot), len(self.context.tokens)
        belief = self._with(self._shared() if known is None else known, variants)
        sums = _sums(belief, variants, tokens)
        touched = np.unique(sums.indices)
        belief = belief.only(touched).faded(faded, self._variances([belief.names[place] for place in touched]))
        ids = tuple(variant.variant_id for variant in variants)
        names = [f"{variant_id}\t{token}" for variant_id in ids for token in range(-1, tokens)]
        return Scores(ids, belief.of_sums(names, sums[:, touched].toarray()))

    def told(self, scores: Scores, evidence: Evidence) -> Scores:
        """The same after what came of these variants since the fit."""
        rows = self._rows(scores.variant_ids, evidence)
        return replace(scores, belief=scores.belief.told(rows, family=self.family, noise=self.noise))

    def draws(self, scores: Scores, *, n: int = 1000, seed: int = 0) -> Draws:
        """Draws of the scores; the same for a seed."""
        drawn = scores.belief.draws(n, seed=seed).T.reshape(len(scores.variant_ids), -1, n)
        drawn[:, 0] += self._offset
        told = np.ascontiguousarray(drawn, np.float32)
        return Draws(scores.variant_ids, told, self.usual, logistic=self.family == "logistic")

    def expected(self, scores: Scores, codes: np.ndarray) -> np.ndarray:
        """What each variant is expected to bring with each row, at the mean of the scores: a share or money, (n, k)."""
        eta = scores.belief.mean.reshape(len(scores.variant_ids), -1)
        eta = self._offset + eta[:, 0] + _indicators(codes, len(self.context.tokens)) @ eta[:, 1:].T
        return np.asarray(expit(eta) if self.family == "logistic" else self.scale * eta)

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        """What variants are expected to bring: a share or money, (n,).

        Args:
            rows: `slot`, `variant_id`, and where known `campaign_id`, `text`, `attributes` and the situation's columns.
        """
        told = {name: rows.get(name, pd.Series("", rows.index)).fillna("").astype(str) for name in OF_VARIANT}
        codes, found = self.context.codes(rows), np.empty(len(rows))
        for row, values in enumerate(zip(*told.values(), strict=True)):
            variant = Variant(**dict(zip(told, values, strict=True)))
            found[row] = self.expected(self.scores(variant.slot, [variant]), codes[[row]])[0, 0]
        return found

    def save(self, folder: Path) -> None:
        """Write `model.json` and `beliefs.npz`; the folder appears whole or not at all."""
        if not self.beliefs:
            raise NotFittedError("the variants' model has not learnt yet: call fit(...) first.")
        about = {
            "name": self.name,
            "family": self.family,
            "spread": self.spread,
            "context": self.context.to_json(),
            "usual": self.usual.tolist(),
            "rate": self.rate,
            "scale": self.scale,
            "noise": self.noise,
            "weights": {slot: list(belief.names) for slot, belief in self.beliefs.items()},
        }
        arrays: dict[str, np.ndarray] = {}
        for place, belief in enumerate(self.beliefs.values()):
            arrays |= {f"mean{place}": belief.mean, f"covariance{place}": belief.covariance}
        with replacing(folder) as beside:
            saving.write(beside, about)
            np.savez(beside / ARRAYS, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelFileError: a file is missing, cut short or changed.
        """
        with saving.reading(folder) as about:
            model = cls(family=about["family"])
            model.spread |= about["spread"]
            model.context = Context.from_json(about["context"])
            model.usual = np.asarray(about["usual"], float)
            model.rate, model.scale, model.noise = (float(about[name]) for name in ("rate", "scale", "noise"))
            with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
                for place, (slot, names) in enumerate(about["weights"].items()):
                    mean, covariance = arrays[f"mean{place}"], arrays[f"covariance{place}"]
                    if mean.shape != (len(names),) or covariance.shape != (len(names), len(names)):
                        raise ValueError(f"{slot}: there should be {len(names)} weights")
                    model.beliefs[slot] = Belief(tuple(names), mean, covariance)
        return model

    @property
    def _offset(self) -> float:
        """What everything brings on average, as eta has it."""
        return float(logit(self.rate)) if self.family == "logistic" else 1.0

    def _measure(self, evidence: Evidence) -> None:
        """The level and noise of the rewards, and how common each token is."""
        mean = float(evidence.reward.sum() / evidence.shown.sum())
        tokens = _indicators(evidence.codes, len(self.context.tokens))
        self.usual = np.asarray(tokens.T @ evidence.shown).ravel() / evidence.shown.sum()
        if self.family == "logistic":
            self.rate = float(np.clip(mean, 1e-5, 1 - 1e-5))
        else:
            self.rate = self.scale = mean
            self.noise = float(np.average((evidence.reward / mean - 1) ** 2, weights=evidence.shown))

    def _learnt(
        self, belief: Belief, parts: Sequence[Sequence[Variant]], evidence: Evidence, keep: Collection[str] | None
    ) -> Belief:
        """The belief after part upon part, without the own weights of what is not kept."""
        for part in parts:
            belief = self._with(belief, part)
            belief = belief.told(self._rows_of(belief, part, evidence), family=self.family, noise=self.noise)
            belief = belief.only(_lasting(belief, part, keep))
        return belief

    def _learn_spread(
        self, parts: Sequence[tuple[Belief | None, Sequence[Variant]]], evidence: Evidence, groups: Collection[str]
    ) -> None:
        """The standard deviation of each of these groups' weights.

        Args:
            parts: Variants that are learnt from together, with what is believed of the weights that they share.
            evidence: What came of them.
            groups: The others keep theirs.
        """
        asked = []
        for known, part in parts:
            belief = self._with(known or self._shared(), part)
            rows = self._rows_of(belief, part, evidence)
            touched = np.unique(rows.X.indices)
            fixed = known and known.only(touched[touched < len(known.names)])
            free = [name for name in belief.only(touched).names if fixed is None or name not in set(fixed.names)]
            asked.append((fixed, free, replace(rows, X=rows.X[:, touched])))
        for _ in range(MAX_ROUNDS):
            squares, determined = dict.fromkeys(SPREAD, 0.0), dict.fromkeys(SPREAD, 0.0)
            for fixed, free, rows in asked:
                prior = self._before(free) if fixed is None else fixed.beside(self._before(free))
                found = prior.told(rows, family=self.family, noise=self.noise)
                known_share = 1 - np.diag(found.covariance) / np.diag(prior.covariance)
                for name, mean, share in zip(found.names, found.mean, known_share, strict=True):
                    squares[_group(name)] += mean**2
                    determined[_group(name)] += share
            moved = 0.0
            for group in groups:
                told = (squares[group] + WORTH * SPREAD[group] ** 2) / (determined[group] + WORTH)
                step = np.log(told) / 4 - np.log(self.spread[group]) / 2  # half way, in logarithms
                self.spread[group] *= float(np.exp(step))
                moved = max(moved, abs(float(step)))
            if moved < STEADY:
                return

    def _variances(self, names: Sequence[str]) -> np.ndarray:
        return np.array([self.spread[_group(name)] ** 2 for name in names])

    def _before(self, names: Sequence[str]) -> Belief:
        return Belief.before(names, self._variances(names))

    def _shared(self) -> Belief:
        """What is believed of a slot of which nothing is known."""
        return self._before([
            "slot",
            *(f"word\t{place}" for place in range(WORDS)),
            *(f"attribute\t{place}" for place in range(ATTRIBUTES)),
            *(f"token\t{token}" for token in range(len(self.context.tokens))),
            *(f"crossed\t{place}" for place in range(CROSSED if self.context.tokens else 0)),
        ])  # fmt: skip

    def _with(self, belief: Belief, variants: Sequence[Variant]) -> Belief:
        """The belief with the own weights of the variants that it does not know yet."""
        known = set(belief.names)
        new = [name for variant in variants for name in self._own(variant) if name not in known]
        return belief.beside(self._before(list(dict.fromkeys(new)))) if new else belief

    def _own(self, variant: Variant) -> list[str]:
        """Names of the weights of one variant and its campaign."""
        suits = (f"suits\t{variant.variant_id}\t{token}" for token in range(len(self.context.tokens)))
        return [*_campaign(variant), f"own\t{variant.variant_id}", *suits]

    def _rows_of(self, belief: Belief, variants: Sequence[Variant], evidence: Evidence) -> Rows:
        """The evidence about these variants, over the weights of a belief."""
        rows = self._rows([variant.variant_id for variant in variants], evidence)
        return replace(rows, X=sparse.csr_matrix(rows.X @ _sums(belief, variants, len(self.context.tokens))))

    def _rows(self, variant_ids: Sequence[str], evidence: Evidence) -> Rows:
        """The evidence about these variants over their scores, equal rows together."""
        tokens = len(self.context.tokens)
        code = pd.Index(variant_ids).get_indexer(evidence.variant_id)
        kept = code >= 0
        asked, which = np.unique(np.column_stack([code, evidence.codes])[kept], axis=0, return_inverse=True)
        which, m = which.reshape(-1), len(asked)
        row, column = np.nonzero(asked[:, 1:] >= 0)
        place = np.append(asked[:, 0] * (1 + tokens), asked[row, 0] * (1 + tokens) + 1 + asked[row, 1 + column])
        X = (np.ones(len(place)), (np.append(np.arange(m), row), place))
        return Rows(
            X=sparse.csr_matrix(X, shape=(m, len(variant_ids) * (1 + tokens))),
            offset=np.full(m, self._offset),
            shown=np.bincount(which, evidence.shown[kept], m),
            reward=np.bincount(which, evidence.reward[kept], m) / self.scale,
        )


def _group(name: str) -> str:
    return name.partition("\t")[0]


def _campaign(variant: Variant) -> list[str]:
    return [f"campaign\t{variant.campaign_id}"] if variant.campaign_id else []


def _by_slot(variants: Sequence[Variant]) -> dict[str, list[Variant]]:
    found: dict[str, list[Variant]] = {}
    for variant in variants:
        found.setdefault(variant.slot, []).append(variant)
    return found


def _parts(variants: Sequence[Variant], keep: Collection[str] | None, *, weights: int) -> list[list[Variant]]:
    """Variants that are learnt from together, whole campaigns; those that may be shown again come last."""
    campaigns: dict[str, list[Variant]] = {}
    for variant in variants:
        key = f"campaign {variant.campaign_id}" if variant.campaign_id else f"variant {variant.variant_id}"
        campaigns.setdefault(key, []).append(variant)
    gone = [found for found in campaigns.values() if keep is not None and not any(v.variant_id in keep for v in found)]
    total = sum(map(len, gone))
    most = total / max(1, -(-total * weights // MAX_OWN))  # parts of about one size
    parts: list[list[Variant]] = []
    for campaign in gone:
        if not parts or len(parts[-1]) >= most:
            parts.append([])
        parts[-1] += campaign
    last = [variant for found in campaigns.values() if not any(found is other for other in gone) for variant in found]
    return [*parts, last] if last else parts


def _lasting(belief: Belief, part: Sequence[Variant], keep: Collection[str] | None) -> np.ndarray:
    """Places of the weights without those of variants and campaigns that are gone for good."""
    if keep is None:
        return np.arange(len(belief.names))
    kept = [variant for variant in part if variant.variant_id in keep]
    stays = {name for variant in kept for name in _campaign(variant)} | {variant.variant_id for variant in kept}
    gone = {name for variant in part for name in (*_campaign(variant), variant.variant_id)} - stays
    told = [name if _group(name) == "campaign" else "\t".join(name.split("\t")[1:2]) for name in belief.names]
    own = [_group(name) in {"campaign", "own", "suits"} for name in belief.names]
    return np.array([place for place, name in enumerate(told) if not (own[place] and name in gone)])


def _indicators(codes: np.ndarray, tokens: int) -> sparse.csr_matrix:
    """Which tokens each row has, (n, tokens)."""
    row, column = np.nonzero(codes >= 0)
    return sparse.csr_matrix((np.ones(len(row)), (row, codes[row, column])), shape=(len(codes), tokens))


def _sums(belief: Belief, variants: Sequence[Variant], tokens: int) -> sparse.csr_matrix:
    """Which weights make up a variant's score, and what each token adds to it: (variants * (1 + tokens), P)."""
    index = {name: place for place, name in enumerate(belief.names)}
    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []

    def add(row: int, name: str, value: float = 1.0) -> None:
        if (place := index.get(name)) is not None:
            rows.append(row)
            columns.append(place)
            values.append(value)

    for number, variant in enumerate(variants):
        first = number * (1 + tokens)
        words, attributes = hashed(variant)
        add(first, "slot")
        add(first, f"own\t{variant.variant_id}")
        for name in _campaign(variant):
            add(first, name)
        for place in np.flatnonzero(words):
            add(first, f"word\t{place}", words[place])
        told = np.flatnonzero(attributes)
        for place in told:
            add(first, f"attribute\t{place}", attributes[place])
        for token in range(tokens):
            add(first + 1 + token, f"token\t{token}")
            add(first + 1 + token, f"suits\t{variant.variant_id}\t{token}")
            for place in told:
                pair = int(place) * tokens + token
                add(first + 1 + token, f"crossed\t{pair * 2_654_435_761 % 2**32 % CROSSED}", attributes[place])
    return sparse.csr_matrix((values, (rows, columns)), shape=(len(variants) * (1 + tokens), len(belief.names)))
