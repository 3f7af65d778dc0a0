"""Who the customers are: traits and lives, drawn batch by batch, and the tables that show a part of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import pyarrow as pa

from simulation import arrow, responses
from simulation.scene import Scene
from simulation.world import Offer, Trait, World

ARMS = ("random", "holdout", "usual")
RANDOM, HOLDOUT, USUAL = range(len(ARMS))
LINES_PER_ORDER = 2
"""About; only the truth's expected cost of an offer for one category leans on it."""
FIRST_NAMES = (
    "Ada", "Alan", "Amara", "Anna", "Ben", "Carlos", "Chen", "Clara", "David", "Elif", "Emma", "Fatima", "Hugo", "Ines",
    "Ivan", "Jonas", "Kofi", "Lea", "Lucas", "Maria", "Mei", "Nora", "Omar", "Priya", "Rosa", "Sofia", "Tariq", "Yuki",
)  # fmt: skip
NAMELESS_SHARE = 0.1
"""So many did not tell what to call them."""


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
        tier: Code at sign-up, (n,).
        buy_logit: Log-odds of an order at a visit of mean length without need, (n,).
        rhythm_days: Days between needs, (n,).
        phase_days: Day of one need, (n,).
        price_sensitivity: Standard normal, (n,).
        loyalty: Standard normal; the loyal stay longer, (n,).
        affinity: Taste for each category, standard normal, (n, C).
        factors: Latent taste, standard normal, (n, F).
        pool: Items they consider, (n, M).
        order_revenue: Expected, of an order before any discount, (n,).
        order_margin: Expected, after the items' cost and what is sent back, (n,).
        arm: Code into ARMS, (n,).
        reached: Whether they consented to each channel at sign-up, (n, K).
        dead_from: Day from which their address no longer works, else inf, (n,).
        machine: Whether their mail program opens everything, (n,).
        open_logit: Their own part of the log-odds of an open, (n,).
        click_logit: Their own part of the log-odds of a click, (n,).
        wording: What each variant adds to the log-odds of a click, (n, variants).
        offer_lift: Chance of an extra order by each offer, if present, (n, offers).
        offer_annoyance: Share of their orders that each offer costs the shop, (n, offers).
        offer_cost: Expected cost of each offer on an order, discount included, (n, offers).
        extra_profit: Expected of an order that an offer brings, its cost off: such orders are smaller, (n, offers).
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
    affinity: np.ndarray
    factors: np.ndarray
    pool: np.ndarray
    order_revenue: np.ndarray
    order_margin: np.ndarray
    arm: np.ndarray
    reached: np.ndarray
    dead_from: np.ndarray
    machine: np.ndarray
    open_logit: np.ndarray
    click_logit: np.ndarray
    wording: np.ndarray
    offer_lift: np.ndarray
    offer_annoyance: np.ndarray
    offer_cost: np.ndarray
    extra_profit: np.ndarray

    def __len__(self) -> int:
        return len(self.number)

    @cached_property
    def ids(self) -> pa.Array:
        """User ids, (n,)."""
        return arrow.numbered("u", 1_000_000 + self.number)

    def presence(self, row: np.ndarray, day: np.ndarray, *, world: World) -> np.ndarray:
        """How present the people of `row` are at `day` (see `responses.presence`); the two broadcast."""
        return responses.presence(
            day,
            arrives=self.arrives[row],
            leaves=self.leaves[row],
            fade_days=self.fade_days[row],
            returns=self.returns[row],
            floor=world.visits.fade_floor,
        )

    def need(self, row: np.ndarray, day: np.ndarray, *, world: World) -> np.ndarray:
        """How much the people of `row` need something at `day` (see `responses.need`); the two broadcast."""
        return responses.need(
            day,
            rhythm_days=self.rhythm_days[row],
            phase_days=self.phase_days[row],
            sharpness=world.orders.need_sharpness,
        )

    def purchase_probability(self, row: np.ndarray, day: np.ndarray, views: np.ndarray, *, world: World) -> np.ndarray:
        """Chance that a visit of `row` at `day` with so many views ends in an order; all broadcast."""
        return responses.purchase_probability(
            self.buy_logit[row],
            need=self.need(row, day, world=world),
            presence=self.presence(row, day, world=world),
            views=views,
            world=world,
        )

    def visit_rate(self, day: np.ndarray, *, scene: Scene) -> np.ndarray:
        """Expected visits of their own accord on whole days, (n, len(day))."""
        everyone, noon = np.arange(len(self))[:, None], day + 0.5
        wanting = 1 + scene.world.orders.need_visits * self.need(everyone, noon, world=scene.world)
        here = self.presence(everyone, noon, world=scene.world)
        return np.asarray(self.visits_per_day[:, None] * here * wanting * scene.calendar.busyness[day])

    def expected_orders(self, day: np.ndarray, *, scene: Scene) -> np.ndarray:
        """Expected orders of their own accord over whole days, if they have signed up, (n,)."""
        world = scene.world
        total = np.zeros((len(self), len(day)))
        for views, share in zip(*_visit_lengths(world), strict=True):
            total += share * self.purchase_probability(np.arange(len(self))[:, None], day + 0.5, views, world=world)
        return np.asarray((self.visit_rate(day, scene=scene) * total).sum(axis=1) * (1 - world.visits.signed_out_share))

    def offer_profit(self, day: float, *, base_orders: np.ndarray, world: World) -> np.ndarray:
        """True extra profit of each offer made at `day`, against leaving the person alone, (n, offers).

        `base_orders` are those expected in the offer's window anyway, (n,).
        """
        here = self.presence(np.arange(len(self)), np.array(day), world=world)
        return responses.incremental_profit(
            extra=responses.extra_order_probability(
                self.offer_lift, presence=here[:, None], absent_share=world.experiment.absent_share
            ),
            annoyance=self.offer_annoyance,
            base_orders=base_orders[:, None],
            margin=self.order_margin[:, None],
            cost=self.offer_cost,
            extra_profit=self.extra_profit,
        )


def draw_people(scene: Scene, rng: np.random.Generator, *, first: int, count: int) -> People:
    """Draw customers `first`, `first + 1`, ..."""
    world, days, n = scene.world, scene.calendar.days, count
    who, visits, orders, messages, test = world.people, world.visits, world.orders, world.messages, world.experiment

    def choose(*shares: float) -> np.ndarray:
        return rng.choice(len(shares), n, p=np.array(shares) / np.sum(shares))

    def spread(sigma: float = 1.0) -> np.ndarray:
        return sigma * rng.standard_normal(n)

    acquisition = choose(*(source.share for source in who.acquisition))
    country = choose(*(country.share for country in who.countries))
    loyalty, price_sensitivity = spread(), spread()
    activity = rng.gamma(visits.shape, 1 / visits.shape, n) + 0.02
    affinity = rng.standard_normal((n, len(world.catalogue.categories)))
    factors = rng.standard_normal((n, world.tastes.factors))

    existing = rng.random(n) < who.existing_share
    created = np.where(existing, -rng.uniform(0, who.history_days, n), rng.uniform(0, days, n))
    arrives = np.where(existing, created, np.maximum(created - rng.exponential(visits.browse_days, n), 0))
    stay = np.array([source.stay for source in who.acquisition])[acquisition]
    lifetime = visits.lifetime_days / np.log(2) * stay * np.exp(visits.lifetime_sigma * loyalty) * activity**0.25
    leaves = np.maximum(created, 0) + rng.exponential(lifetime)
    leaves = np.where(existing & (rng.random(n) < who.gone_share), -1, leaves)
    away = np.maximum(leaves, 0) + 20 + rng.exponential(visits.return_gap_days, n)

    best_hour = np.array(visits.hour_peaks)[choose(*visits.hour_peak_shares)] + spread(visits.hour_peak_sigma)
    rhythm_days = orders.rhythm_days * np.exp(spread(orders.rhythm_sigma))
    worth = loyalty + 0.5 * np.log(activity) + spread()
    edges = np.quantile(worth, np.cumsum(who.tier_shares)[:-1] / np.sum(who.tier_shares))

    pool = _pools(scene, rng, factors=factors, affinity=affinity, price_sensitivity=price_sensitivity)
    revenue, margin = _expected_order(scene, pool)
    extra_revenue, extra_margin = _expected_order(scene, pool, brought=True)
    traits: dict[Trait, np.ndarray] = {
        "price_sensitivity": price_sensitivity,
        "loyalty": loyalty,
        "abroad": 2.0 * (country > 0) - 1,
        "evening": np.where(np.abs(best_hour - 20) < 4, 1.0, -1.0),
        "small_basket": -_standard(np.log(revenue)),
        "frequent": _standard(np.log(activity)),
    }

    def moved(weights: Mapping[Trait, float], category: str = "") -> np.ndarray:
        names = [c.name for c in world.catalogue.categories]
        liking = affinity[:, names.index(category)] if category else _standard(affinity.max(axis=1))
        own = traits | {"affinity": liking, "luck": spread()}
        return np.asarray(sum((weight * own[trait] for trait, weight in weights.items()), np.zeros(n)))

    return People(
        number=first + np.arange(n),
        created=created,
        arrives=arrives,
        leaves=leaves,
        hazard=1 / lifetime,
        fade_days=rng.gamma(2, visits.fade_days / 2, n) + 3,
        returns=np.where(rng.random(n) < visits.return_share, away, np.inf),
        visits_per_day=visits.per_week / 7 * activity,
        best_hour=best_hour % 24,
        country=country,
        acquisition=acquisition,
        tier=np.searchsorted(edges, worth),
        buy_logit=orders.buy_logit + orders.buy_sigma * (0.6 * loyalty + spread(0.8)),
        rhythm_days=rhythm_days,
        phase_days=rng.uniform(0, rhythm_days),
        price_sensitivity=price_sensitivity,
        loyalty=loyalty,
        affinity=affinity,
        factors=factors,
        pool=pool,
        order_revenue=revenue,
        order_margin=margin,
        arm=choose(test.random_share, test.holdout_share, max(1 - test.random_share - test.holdout_share, 0.0)),
        reached=rng.random((n, len(messages.channels))) < [channel.reach for channel in messages.channels],
        dead_from=np.where(rng.random(n) < messages.dead_address_share, rng.uniform(0, days, n), np.inf),
        machine=rng.random(n) < messages.machine_share,
        open_logit=spread(messages.open_sigma),
        click_logit=spread(messages.click_sigma),
        wording=np.column_stack([moved(variant.liked_by) for variant in world.variants]),
        offer_lift=np.column_stack(
            [
                offer.lift * responses.logistic(offer.lift_logit + moved(offer.moved_by, offer.category))
                for offer in world.offers
            ]
        ),
        offer_annoyance=np.column_stack(
            [
                offer.annoyance * responses.logistic(offer.annoyance_logit + moved(offer.annoyed_by, offer.category))
                for offer in world.offers
            ]
        ),
        offer_cost=np.column_stack([_expected_cost(scene, offer, pool, revenue) for offer in world.offers]),
        extra_profit=np.column_stack(
            [extra_margin - _expected_cost(scene, offer, pool, extra_revenue, brought=True) for offer in world.offers]
        ),
    )


def users_table(scene: Scene, people: People, rng: np.random.Generator) -> pa.Table:
    """The `users` table: a row at sign-up, one when the tier changes, one when the person moves."""
    who, days, n = scene.world.people, scene.calendar.days, len(people)
    since = np.maximum(people.created, 0)
    changed = np.flatnonzero(rng.random(n) < who.tier_change_share)
    moved = np.flatnonzero(rng.random(n) < who.move_share)
    tier, country = people.tier.copy(), people.country.copy()
    tier[changed] = np.clip(tier[changed] + np.where(rng.random(len(changed)) < 0.7, 1, -1), 0, len(who.tiers) - 1)
    country[moved] = rng.integers(len(who.countries), size=len(moved))
    change_at = since + (days - since) * rng.uniform(0.01, 0.5, n)
    move_at = since + (days - since) * rng.uniform(0.5, 0.99, n)

    row = np.concatenate([np.arange(n), changed, moved])
    at = np.concatenate([people.created, change_at[changed], move_at[moved]])
    tier = np.concatenate([people.tier, tier[changed], tier[moved]])
    country = np.concatenate([people.country, people.country[changed], country[moved]])
    order = np.lexsort((at, row))
    row, at, tier, country = row[order], at[order], tier[order], country[order]
    start_us = scene.calendar.start_us
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
                arrow.strings([source.name for source in who.acquisition]), people.acquisition[row]
            ),
            "channels": _channel_lists(scene.world, people.reached[row]),
            "first_name": arrow.pick(arrow.strings(list(FIRST_NAMES)), _first_names(people.number)[row]),
        }
    )


def truth_table(scene: Scene, people: People) -> pa.Table:
    """Everything true about the people, a row each; matrices as lists.

    Beside the traits: `variant_click`, the chance that they click each variant once opened, and for an offer made
    `window_days` before the end `base_orders` (in the window, left alone) and `offer_profit` (see `People`).
    """
    world = scene.world
    window_days = world.experiment.window_days
    first_day = scene.calendar.days - window_days
    base_orders = people.expected_orders(first_day + np.arange(window_days), scene=scene)
    first_channel = world.messages.channels[0].click_logit + people.click_logit
    computed = {
        "variant_click": responses.click_probability(first_channel[:, None], wording=people.wording),
        "base_orders": base_orders,
        "offer_profit": people.offer_profit(first_day, base_orders=base_orders, world=world),
    }
    columns: dict[str, pa.Array] = {"user_id": people.ids}
    for name, values in ({field.name: getattr(people, field.name) for field in fields(people)} | computed).items():
        if values.ndim == 2:
            flat = pa.array(np.ascontiguousarray(values).ravel())
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        else:
            columns[name] = pa.array(values)
    return pa.table(columns)


def _first_names(number: np.ndarray) -> np.ndarray:
    """Code of each person's name, -1 for who did not tell it, (n,): by their number, so that no other draw moves."""
    even = number * 2_654_435_761 % 2**32 / 2**32  # multiplicative hashing: Knuth, The Art of Computer Programming 6.4
    among = (even - NAMELESS_SHARE) / (1 - NAMELESS_SHARE) * len(FIRST_NAMES)
    return np.floor(np.maximum(among, -1)).astype(int)


def _standard(x: np.ndarray) -> np.ndarray:
    return np.asarray((x - x.mean()) / max(x.std(), 1e-9))


def _channel_lists(world: World, reached: np.ndarray) -> pa.Array:
    """Names of the channels that reach people, a list each, (n,)."""
    names = arrow.strings([channel.name for channel in world.messages.channels])
    ends = np.cumsum(reached.sum(axis=1))
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, names.take(pa.array(np.nonzero(reached)[1])))


def _pools(
    scene: Scene, rng: np.random.Generator, *, factors: np.ndarray, affinity: np.ndarray, price_sensitivity: np.ndarray
) -> np.ndarray:
    """Each person's consideration set, drawn from a softmax over all items, (n, M)."""
    tastes, items = scene.world.tastes, scene.items
    dear = np.log(items.prices[:, 0] / np.median(items.prices[:, 0])).astype(np.float32)
    logits = (tastes.strength / np.sqrt(tastes.factors) * factors).astype(np.float32) @ items.factors.T.astype(
        np.float32
    )
    logits += (tastes.category_strength * affinity).astype(np.float32)[:, items.category]
    logits -= (tastes.price_strength * price_sensitivity).astype(np.float32)[:, None] * dear
    logits += items.log_popularity.astype(np.float32)
    cdf = np.cumsum(np.exp(logits, out=logits), axis=1, out=logits)
    cdf /= cdf[:, -1:].copy()
    n, M = len(factors), tastes.pool
    return arrow.draw(cdf, np.repeat(np.arange(n), M), rng.random(n * M)).reshape(n, M).astype(np.int32)


def _expected_order(
    scene: Scene, pool: np.ndarray, *, category: int | None = None, brought: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Expected revenue and margin of an order, of one category or all, by the person's pool, (n,) each.

    The last view of a buying visit is always bought, the others each with the chance of their category. Buying visits
    are longer than others, since every view moves the odds; that is worked out at full need. Visits that are `brought`
    by an offer end in an order however long they are.
    """
    world, items = scene.world, scene.items
    funnel, orders = world.funnel, world.orders
    views, share = _visit_lengths(world)
    logit = orders.buy_logit + orders.need_logit + orders.views_logit * (views - funnel.views)
    buying = share if brought else share * responses.logistic(logit)
    others = float((views - 1) @ buying / buying.sum())
    bought = 1 + others * (funnel.buyer_add_share + funnel.rebuy_add_share * items.rebuy) * (1 - funnel.remove_share)
    bought = bought / (1 - orders.quantity_more)
    if category is not None:
        bought = bought * (items.category == category)
    everybody = np.diff(items.explored.mean(axis=0), prepend=0)
    explore = world.tastes.explore_share

    def expected(worth: np.ndarray) -> np.ndarray:
        return np.asarray((1 - explore) * worth[pool].mean(axis=1) + explore * float(everybody @ worth))

    price = items.prices[:, 0]
    return expected(bought * price), expected(bought * (price - items.cost)) * (1 - orders.return_share)


def _visit_lengths(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of views of a visit, and how often a visit has each (geometric, cut where it hardly matters)."""
    views = np.arange(1, round(8 * world.funnel.views))
    share = (1 - 1 / world.funnel.views) ** (views - 1)
    return views, share / share.sum()


def _expected_cost(
    scene: Scene, offer: Offer, pool: np.ndarray, revenue: np.ndarray, *, brought: bool = False
) -> np.ndarray:
    """What an offer costs on an order on average, (n,); baskets are taken as exponential around their mean."""
    names = [category.name for category in scene.world.catalogue.categories]
    eligible = revenue
    if offer.category:
        eligible = _expected_order(scene, pool, category=names.index(offer.category), brought=brought)[0]
    in_basket = 1 - (1 - eligible / revenue) ** LINES_PER_ORDER
    mean = eligible / np.maximum(in_basket, 1e-9)
    redeems = in_basket * np.exp(-offer.min_spend / np.maximum(mean, 1e-9))
    discounts = {"percent": offer.value / 100 * (mean + offer.min_spend), "amount": offer.value}
    return np.asarray(redeems * (discounts.get(offer.kind, 0.0) + offer.cost))
