"""Who the customers are: traits and lives, drawn batch by batch, and the tables that show a part of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import pyarrow as pa

from simulation import arrow, responses
from simulation.catalogue import Items
from simulation.world import World


@dataclass(frozen=True, eq=False)
class People:
    """The truth about n customers. Times are days since the first simulated midnight.

    Attributes:
        number: Position in the whole shop, (n,).
        created: When they signed up, negative before the simulated days, (n,).
        arrives: When they first come by; before `created` they are anonymous, (n,).
        leaves: When they leave, (n,).
        hazard: Daily chance of leaving, (n,).
        fade_days: Over how many days before leaving they fade, (n,).
        returns: When those who come back do, else inf, (n,).
        visits_per_day: While present, apart from season and need, (n,).
        best_hour: Their own local hour, (n,).
        country: Code, (n,).
        acquisition: Code, (n,).
        tier: Code, (n,).
        buy_logit: Log-odds of an order at a visit of mean length without need, (n,).
        rhythm_days: Days between needs, (n,).
        phase_days: Day of one need, (n,).
        price_sensitivity: Standard normal, (n,).
        loyalty: Standard normal; the loyal stay longer, (n,).
        factors: Latent taste, (n, F).
        affinity: Taste for each category, (n, C).
        pool: Items they consider, (n, M).
    """

    number: np.ndarray
    created: np.ndarray
    arrives: np.ndarray
    leaves: np.ndarray
    hazard: np.ndarray
    fade_days: np.ndarray
    returns: np.ndarray
    visits_per_day: np.ndarray
    best_hour: np.ndarray
    country: np.ndarray
    acquisition: np.ndarray
    tier: np.ndarray
    buy_logit: np.ndarray
    rhythm_days: np.ndarray
    phase_days: np.ndarray
    price_sensitivity: np.ndarray
    loyalty: np.ndarray
    factors: np.ndarray
    affinity: np.ndarray
    pool: np.ndarray

    def __len__(self) -> int:
        return len(self.number)

    @cached_property
    def ids(self) -> pa.Array:
        """User ids, (n,)."""
        return arrow.numbered("u", 1_000_000 + self.number)

    def presence(self, row: np.ndarray | slice, day: np.ndarray, *, world: World) -> np.ndarray:
        """How present the people of `row` are at `day` (see `responses.presence`)."""
        column = (slice(None), None) if isinstance(row, slice) else slice(None)
        return responses.presence(
            day,
            arrives=self.arrives[row][column],
            leaves=self.leaves[row][column],
            fade_days=self.fade_days[row][column],
            returns=self.returns[row][column],
            floor=world.visits.fade_floor,
        )

    def need(self, row: np.ndarray | slice, day: np.ndarray, *, world: World) -> np.ndarray:
        """How much the people of `row` need something at `day` (see `responses.need`)."""
        column = (slice(None), None) if isinstance(row, slice) else slice(None)
        return responses.need(
            day,
            rhythm_days=self.rhythm_days[row][column],
            phase_days=self.phase_days[row][column],
            sharpness=world.orders.need_sharpness,
        )


def draw_people(world: World, items: Items, rng: np.random.Generator, *, first: int, count: int, days: int) -> People:
    """Draw customers `first`, `first + 1`, ... of a shop that is watched for `days`."""
    who, visits, orders = world.people, world.visits, world.orders
    n = count

    def choose(shares: list[float]) -> np.ndarray:
        return rng.choice(len(shares), n, p=np.array(shares) / np.sum(shares))

    acquisition = choose([source.share for source in who.acquisition])
    loyalty, price_sensitivity = rng.standard_normal(n), rng.standard_normal(n)
    activity = rng.gamma(visits.shape, 1 / visits.shape, n) + 0.02

    existing = rng.random(n) < who.existing_share
    created = np.where(existing, -rng.uniform(0, who.history_days, n), rng.uniform(0, days, n))
    arrives = np.where(existing, created, np.maximum(created - rng.exponential(visits.browse_days, n), 0))
    stay = np.array([source.stay for source in who.acquisition])[acquisition]
    lifetime = visits.lifetime_days / np.log(2) * stay * np.exp(visits.lifetime_sigma * loyalty) * activity**0.25
    leaves = np.maximum(created, 0) + rng.exponential(lifetime)
    leaves = np.where(existing & (rng.random(n) < who.gone_share), -1, leaves)
    back = rng.random(n) < visits.return_share
    returns = np.where(back, np.maximum(leaves, 0) + 20 + rng.exponential(visits.return_gap_days, n), np.inf)

    peak = choose(list(visits.hour_peak_shares))
    best_hour = (np.array(visits.hour_peaks)[peak] + visits.hour_peak_sigma * rng.standard_normal(n)) % 24
    rhythm_days = orders.rhythm_days * np.exp(orders.rhythm_sigma * rng.standard_normal(n))
    buy = orders.buy_logit + orders.buy_sigma * (0.8 * rng.standard_normal(n) + 0.6 * loyalty)
    worth = loyalty + 0.5 * np.log(activity) + rng.standard_normal(n)
    edges = np.quantile(worth, np.cumsum(who.tier_shares)[:-1] / np.sum(who.tier_shares))

    factors = rng.standard_normal((n, world.tastes.factors))
    affinity = rng.standard_normal((n, len(world.catalogue.categories)))
    return People(
        number=first + np.arange(n),
        created=created,
        arrives=arrives,
        leaves=leaves,
        hazard=1 / lifetime,
        fade_days=rng.gamma(2, visits.fade_days / 2, n) + 3,
        returns=returns,
        visits_per_day=visits.per_week / 7 * activity,
        best_hour=best_hour,
        country=choose([country.share for country in who.countries]),
        acquisition=acquisition,
        tier=np.searchsorted(edges, worth),
        buy_logit=buy,
        rhythm_days=rhythm_days,
        phase_days=rng.uniform(0, rhythm_days),
        price_sensitivity=price_sensitivity,
        loyalty=loyalty,
        factors=factors,
        affinity=affinity,
        pool=_pools(world, items, rng, factors, affinity, price_sensitivity),
    )


def users_table(world: World, people: People, rng: np.random.Generator, *, start_us: int, days: int) -> pa.Table:
    """The `users` table: a row at sign-up, one when the tier changes, one when the person moves."""
    n, who = len(people), world.people
    everyone = np.arange(n)
    since = np.maximum(people.created, 0)
    moved = np.flatnonzero(rng.random(n) < who.move_share)
    changed = np.flatnonzero(rng.random(n) < who.tier_change_share)
    step = np.where(rng.random(len(changed)) < 0.7, 1, -1)
    tier_now = people.tier.copy()
    tier_now[changed] = np.clip(people.tier[changed] + step, 0, len(who.tiers) - 1)
    country_now = people.country.copy()
    country_now[moved] = rng.integers(len(who.countries), size=len(moved))
    change_at = since + (days - since) * rng.random(n) * 0.5
    move_at = since + (days - since) * (0.5 + 0.49 * rng.random(n))

    row = np.concatenate([everyone, changed, moved])
    at = np.concatenate([people.created, change_at[changed], move_at[moved]])
    tier = np.concatenate([people.tier, tier_now[changed], tier_now[moved]])
    country = np.concatenate([people.country, people.country[changed], country_now[moved]])
    order = np.lexsort((at, row))
    row, at, tier, country = row[order], at[order], tier[order], country[order]
    return pa.table(
        {
            "user_id": arrow.pick(people.ids, row),
            "updated_at": arrow.times(at, start_us),
            "created_at": arrow.times(people.created[row], start_us),
            "country": arrow.pick(arrow.strings([c.country for c in who.countries]), country),
            "locale": arrow.pick(arrow.strings([c.locale for c in who.countries]), country),
            "timezone": arrow.pick(arrow.strings([c.timezone for c in who.countries]), country),
            "member_tier": arrow.pick(arrow.strings(list(who.tiers)), tier),
            "acquisition_channel": arrow.pick(
                arrow.strings([s.name for s in who.acquisition]), people.acquisition[row]
            ),
        }
    )


def truth_table(people: People) -> pa.Table:
    """Everything true about the people, a row each; matrices as lists."""
    columns: dict[str, pa.Array] = {"user_id": people.ids}
    for field in fields(people):
        values = getattr(people, field.name)
        if values.ndim == 2:
            flat = pa.array(np.ascontiguousarray(values).ravel())
            columns[field.name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        else:
            columns[field.name] = pa.array(values)
    return pa.table(columns)


def _pools(
    world: World,
    items: Items,
    rng: np.random.Generator,
    factors: np.ndarray,
    affinity: np.ndarray,
    price_sensitivity: np.ndarray,
) -> np.ndarray:
    """Each person's consideration set, drawn from a softmax over all items, (n, M)."""
    tastes = world.tastes
    logits = (tastes.strength / np.sqrt(tastes.factors) * factors).astype(np.float32) @ items.factors.T.astype(
        np.float32
    )
    logits += (tastes.category_strength * affinity).astype(np.float32)[:, items.category]
    dear = np.log(items.prices[:, 0] / np.median(items.prices[:, 0])).astype(np.float32)
    logits -= (tastes.price_strength * price_sensitivity).astype(np.float32)[:, None] * dear
    logits += items.log_popularity.astype(np.float32)
    cdf = np.cumsum(np.exp(logits, out=logits), axis=1, out=logits)
    cdf /= cdf[:, -1:].copy()
    n, M = len(factors), tastes.pool
    return arrow.draw(cdf, np.repeat(np.arange(n), M), rng.random(n * M)).reshape(n, M).astype(np.int32)
