"""What the shop sells: items with names, prices over time, lives on sale, and their place in the space of tastes."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from simulation import arrow
from simulation.world import World

DAYS_PER_WEEK = 7


@dataclass(frozen=True, eq=False)
class Items:
    """The catalogue and its truth; J items, C categories.

    Attributes:
        ids: Item ids, (J,).
        names: Readable names, (J,).
        category: Code of the category, (J,).
        brand: Code of the brand, (J,).
        price_changes: Days of price changes, inf where there are fewer, (J, P).
        prices: Prices before the first change, after it, ..., (J, P + 1).
        cost: What a piece costs the shop, (J,).
        released: Day the item first went on sale, (J,); negative before the simulated days.
        withdrawn: Day it stops being available, inf = never, (J,).
        rebuy: How readily a buyer takes it, (J,).
        log_popularity: (J,).
        factors: Latent place, (J, F).
        season: Interest in a category by month against its best month, (12, C).
        explored: Cumulative chances by week that somebody without a plan looks at each item, (weeks, J).
    """

    ids: pa.Array
    names: pa.Array
    category: np.ndarray
    brand: np.ndarray
    price_changes: np.ndarray
    prices: np.ndarray
    cost: np.ndarray
    released: np.ndarray
    withdrawn: np.ndarray
    rebuy: np.ndarray
    log_popularity: np.ndarray
    factors: np.ndarray
    season: np.ndarray
    explored: np.ndarray

    def price_at(self, item: np.ndarray, day: np.ndarray) -> np.ndarray:
        """Prices of items at days, (n,)."""
        changes = (self.price_changes[item] <= day[:, None]).sum(axis=1)
        return np.asarray(self.prices[item, changes])

    def on_sale(self, item: np.ndarray, day: np.ndarray) -> np.ndarray:
        """Whether items are on sale at days, (n,)."""
        return np.asarray((self.released[item] <= day) & (day < self.withdrawn[item]))


def make_items(world: World, rng: np.random.Generator, *, months: np.ndarray) -> Items:
    """Draw the catalogue; `months` is the month (1..12) of each simulated day, (days,)."""
    its, categories = world.catalogue, world.catalogue.categories
    J, days = its.items, len(months)
    shares = np.array([c.share for c in categories])
    category = rng.choice(len(categories), J, p=shares / shares.sum())
    brand = rng.integers(len(its.brands), size=J)
    log_popularity = -its.popularity_exponent * np.log(rng.permutation(J) + 1.0)

    new = rng.random(J) < its.new_share
    released = np.where(new, rng.uniform(0, days, J), -rng.uniform(1, 1000, J))
    ends = (rng.random(J) < its.discontinued_share) & ~new
    withdrawn = np.where(ends, rng.uniform(0.1 * days, days, J), np.inf)

    median = np.array([c.price for c in categories])[category]
    base = _charm(median * np.exp(its.price_sigma * rng.standard_normal(J)))
    margin = np.array([c.margin for c in categories])[category]
    cost = np.round(base * (1 - np.clip(margin + 0.06 * rng.standard_normal(J), 0.1, 0.85)), 2)
    count = np.minimum(rng.poisson(its.price_changes_per_year * days / 365, J), 4)
    first = np.maximum(released, 0)
    changes = np.sort(
        np.where(np.arange(4) < count[:, None], rng.uniform(first[:, None], days, (J, 4)), np.inf), axis=1
    )
    steps = np.exp(its.price_change_sigma * rng.standard_normal((J, 4)))
    prices = np.column_stack([base, _charm(base[:, None] * np.cumprod(steps, axis=1))])

    phase = np.arange(1, 13)[:, None] - np.array([c.season_month for c in categories])
    strength = np.array([c.season_strength for c in categories])
    season = (1 + strength * np.cos(2 * np.pi * phase / 12)) / (1 + strength)

    monday = np.arange(0, days, DAYS_PER_WEEK)
    age = monday[:, None] - released
    fresh = 1 + its.novelty * np.exp2(-np.maximum(age, 0) / its.novelty_half_life_days)
    all_week = (age >= 0) & (monday[:, None] + DAYS_PER_WEEK < withdrawn)
    explored = np.cumsum(np.exp(log_popularity) * fresh * all_week * season[months[monday] - 1][:, category], axis=1)

    return Items(
        ids=arrow.strings([f"i{j:05d}" for j in range(J)]),
        names=_names(world, category, rng),
        category=category,
        brand=brand,
        price_changes=changes,
        prices=prices,
        cost=cost,
        released=released,
        withdrawn=withdrawn,
        rebuy=np.array([c.rebuy for c in categories])[category],
        log_popularity=log_popularity,
        factors=rng.standard_normal((J, world.tastes.factors)),
        season=season,
        explored=explored / explored[:, -1:],
    )


def items_table(world: World, items: Items, *, start_us: int) -> pa.Table:
    """The `items` table: a row when an item is released, when its price changes and when it is withdrawn."""
    J = len(items.ids)
    rows = [(np.arange(J), items.released, np.zeros(J, int), np.ones(J, bool))]
    for p in range(items.price_changes.shape[1]):
        changed = np.flatnonzero(np.isfinite(items.price_changes[:, p]))
        at = items.price_changes[changed, p]
        rows.append((changed, at, np.full(len(changed), p + 1), at < items.withdrawn[changed]))
    gone = np.flatnonzero(np.isfinite(items.withdrawn))
    level = (items.price_changes[gone] <= items.withdrawn[gone, None]).sum(axis=1)
    rows.append((gone, items.withdrawn[gone], level, np.zeros(len(gone), bool)))
    item, at, level, available = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    order = np.lexsort((at, item))
    item, at, level, available = item[order], at[order], level[order], available[order]
    return pa.table(
        {
            "item_id": items.ids.take(pa.array(item)),
            "updated_at": arrow.times(at, start_us),
            "name": items.names.take(pa.array(item)),
            "category": arrow.strings([c.name for c in world.catalogue.categories]).take(
                pa.array(items.category[item])
            ),
            "brand": arrow.strings(list(world.catalogue.brands)).take(pa.array(items.brand[item])),
            "price": arrow.numbers(items.prices[item, level]),
            "cost": arrow.numbers(items.cost[item]),
            "available": pa.array(available),
            "created_at": arrow.times(items.released[item], start_us),
        }
    )


def offers_table(world: World) -> pa.Table:
    """The `offers` table; its last row is the offer of nothing."""
    offers = world.offers
    channel = [world.messages.channels[0].name]
    return pa.table(
        {
            "offer_id": offer_ids(world),
            "name": arrow.strings([*(offer.name for offer in offers), "No offer"]),
            "kind": arrow.strings([*(offer.kind for offer in offers), "none"]),
            "value": pa.array([*(offer.value for offer in offers), 0.0]),
            "cost": pa.array([*(offer.cost for offer in offers), 0.0]),
            "min_spend": pa.array([*(offer.min_spend for offer in offers), 0.0]),
            "category": pa.array([*(offer.category or None for offer in offers), None], pa.string()),
            "channels": pa.array([channel] * (len(offers) + 1), pa.list_(pa.string())),
        }
    )


def variants_table(world: World) -> pa.Table:
    """The `variants` table: wordings of one slot."""
    return pa.table(
        {
            "variant_id": variant_ids(world),
            "slot": arrow.strings(["headline"] * len(world.variants)),
            "text": arrow.strings([variant.text for variant in world.variants]),
            "attributes": arrow.strings([json.dumps(variant.attributes) for variant in world.variants]),
        }
    )


def offer_ids(world: World) -> pa.Array:
    """Ids of the offers in the world's order, and then of the offer of nothing."""
    return arrow.strings([*(f"offer-{number + 1}" for number in range(len(world.offers))), "none"])


def variant_ids(world: World) -> pa.Array:
    """Ids of the variants in the world's order."""
    return arrow.strings([f"headline-{number + 1}" for number in range(len(world.variants))])


def _charm(price: np.ndarray) -> np.ndarray:
    """Prices that end in 9 (4.79), at least 0.99."""
    return np.asarray(np.maximum(np.round(price, 1) - 0.01, 0.99).round(2))


def _names(world: World, category: np.ndarray, rng: np.random.Generator) -> pa.Array:
    """Readable names, all different: 'Amber Earl Grey', 'Amber Earl Grey II', ..."""
    styles = rng.permutation(list(world.catalogue.styles))
    seen: dict[str, int] = {}
    names = []
    for code in category:
        nouns = world.catalogue.categories[code].nouns
        name = f"{styles[rng.integers(len(styles))]} {nouns[rng.integers(len(nouns))]}"
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name} No. {seen[name]}")
    return arrow.strings(names)
