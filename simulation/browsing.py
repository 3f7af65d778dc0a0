"""What happens in the shop: visits, the way from a view to an order, and returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from simulation import arrow, responses
from simulation.catalogue import DAYS_PER_WEEK, Items
from simulation.people import People
from simulation.world import World

EVENTS = (
    "signed_up", "page_viewed", "products_searched", "product_list_viewed", "product_viewed", "product_reviewed",
    "product_added", "product_removed", "checkout_started", "order_completed",
)  # fmt: skip
SIGNED_UP, HOME, SEARCH, LIST, VIEW, REVIEW, ADD, REMOVE, CHECKOUT, ORDER = range(len(EVENTS))
PAGES = np.isin(np.arange(len(EVENTS)), [HOME, SEARCH, LIST, VIEW])
CHANNELS = ("web", "app", "email", "sms", "push")
WEB, APP = 0, 1
LAST_VISIT_DAYS = 0.15
"""No visit starts so shortly before the end, so that visits are whole."""


@dataclass(frozen=True, eq=False)
class Calendar:
    """The simulated days.

    Attributes:
        start_us: The first midnight, microseconds since 1970 UTC.
        days: How many days.
        months: Month of each day, 1..12, (days,).
        busyness: How busy the whole shop is on each day, mean about 1, (days,).
        utc_offset_hours: Of each country's time zone on each day, (countries, days).
    """

    start_us: int
    days: int
    months: np.ndarray
    busyness: np.ndarray
    utc_offset_hours: np.ndarray


@dataclass(frozen=True, eq=False)
class Visits:
    """Visits, sorted by visitor and time, S of them.

    Attributes:
        person: Row of `People`, whose tastes the visitor has, (S,).
        stranger: Number of the anonymous visitor who never signs up, -1 = a customer, (S,).
        start: Day, (S,).
        signed_in: Whether the visitor is known at that visit, (S,).
        signs_up: Whether the visitor signs up at that visit, (S,).
        channel: Code into CHANNELS, (S,).
    """

    person: np.ndarray
    stranger: np.ndarray
    start: np.ndarray
    signed_in: np.ndarray
    signs_up: np.ndarray
    channel: np.ndarray

    def __len__(self) -> int:
        return len(self.person)


@dataclass(frozen=True, eq=False)
class Browsed:
    """What the visits left behind.

    Attributes:
        events: The `events` table.
        orders: The `orders` table, returns included.
    """

    events: pa.Table
    orders: pa.Table


def own_visits(world: World, people: People, calendar: Calendar, rng: np.random.Generator) -> Visits:
    """The visits that people make of their own accord, and those of strangers."""
    visits, n = world.visits, len(people)
    day = np.arange(calendar.days)
    here = people.presence(slice(None), day + 0.5, world=world)
    wanting = 1 + world.orders.need_visits * people.need(slice(None), day + 0.5, world=world)
    rate = people.visits_per_day[:, None] * here * wanting * calendar.busyness
    count = rng.poisson(rate)
    person, on_day = np.nonzero(count)
    times = count[person, on_day]
    person, on_day = np.repeat(person, times), np.repeat(on_day, times)
    start = _at_hour(world, people, calendar, rng, person, on_day)

    joins = np.flatnonzero(people.created >= 0)
    start = np.concatenate([start, people.created[joins]])
    signs_up = np.arange(len(start)) >= len(person)
    person = np.concatenate([person, joins])
    signed_in = signs_up | ((start > people.created[person]) & (rng.random(len(start)) >= visits.signed_out_share))

    strangers = round(n * visits.strangers_per_user)
    stranger = np.repeat(np.arange(strangers), 1 + rng.poisson(visits.stranger_visits - 1, strangers))
    like = rng.integers(n, size=strangers)[stranger]
    seen = rng.uniform(0, max(calendar.days - 14, 1), strangers)[stranger] + rng.exponential(4, len(stranger))
    seen = _at_hour(world, people, calendar, rng, like, np.minimum(seen, calendar.days - 1).astype(int))
    none = np.zeros(len(like), bool)
    channel = np.where(rng.random(len(person) + len(like)) < visits.app_share, APP, WEB)
    return in_order(
        Visits(
            person=np.concatenate([person, like]),
            stranger=np.concatenate([np.full(len(person), -1), stranger]),
            start=np.concatenate([start, seen]),
            signed_in=np.concatenate([signed_in, none]),
            signs_up=np.concatenate([signs_up, none]),
            channel=channel,
        ),
        calendar,
    )


def in_order(visits: Visits, calendar: Calendar) -> Visits:
    """Visits sorted by visitor and time; those that would not end in time left out."""
    inside = (visits.start >= 0) & (visits.start < calendar.days - LAST_VISIT_DAYS)
    order = np.lexsort((visits.start, np.where(visits.stranger < 0, visits.person, 0), visits.stranger))
    order = order[inside[order]]
    return Visits(
        person=visits.person[order],
        stranger=visits.stranger[order],
        start=visits.start[order],
        signed_in=visits.signed_in[order],
        signs_up=visits.signs_up[order],
        channel=visits.channel[order],
    )


def browse(
    world: World,
    items: Items,
    people: People,
    visits: Visits,
    calendar: Calendar,
    rng: np.random.Generator,
    *,
    batch: int,
) -> Browsed:
    """Play the visits out: which items are seen, which go into the cart, which are ordered and sent back."""
    S, funnel = len(visits), world.funnel
    views = rng.geometric(1 / funnel.views, S)
    buys = _buys(world, people, visits, views, rng)

    visit = np.repeat(np.arange(S), views)
    last = np.zeros(len(visit), bool)
    last[np.cumsum(views) - 1] = True
    item = _items_seen(world, items, people, visits, visit, calendar, rng)
    add_chance = np.where(
        buys[visit], funnel.buyer_add_share + funnel.rebuy_add_share * items.rebuy[item], funnel.add_share
    )
    added = (rng.random(len(visit)) < add_chance) | (last & buys[visit])
    removed = added & (rng.random(len(visit)) < funnel.remove_share) & ~(last & buys[visit])
    reviewed = rng.random(len(visit)) < funnel.review_share
    in_cart = np.bincount(visit, weights=added & ~removed, minlength=S) > 0
    checkout = buys | (in_cart & (rng.random(S) < funnel.abandon_checkout_share))

    price = items.price_at(item, visits.start[visit])
    taken = np.flatnonzero(added & ~removed & buys[visit])
    line, first_view, same = np.unique(
        visit[taken] * len(items.ids) + item[taken], return_index=True, return_inverse=True
    )
    bought = taken[first_view]
    pieces = rng.geometric(1 - world.orders.quantity_more, len(taken))
    quantity = np.bincount(same, weights=pieces, minlength=len(line))
    total = np.bincount(visit[bought], weights=quantity * price[bought], minlength=S)

    opening = np.column_stack(
        [
            visits.signs_up,
            rng.random(S) < funnel.home_share,
            rng.random(S) < funnel.search_share,
            rng.random(S) < funnel.list_share,
        ]
    )
    middle = np.column_stack([np.ones(len(visit), bool), reviewed, added, removed])
    closing = np.column_stack([checkout, buys])
    steps = _lay_out(opening, middle, closing, visit)

    pause = np.exp(np.float32(funnel.dwell_sigma) * rng.standard_normal(len(steps.event), dtype=np.float32))
    pause *= np.where(PAGES[steps.event], funnel.dwell_seconds, 4.0).astype(np.float32)
    before = np.cumsum(pause, dtype=np.float64) - pause
    at = visits.start[steps.visit] + (before - before[steps.first[steps.visit]]) / 86_400
    seen = np.where(steps.view >= 0, item[steps.view], -1)
    first_item = item[np.cumsum(views) - views]
    value = np.full(len(at), np.nan)
    added_now = steps.event == ADD
    value[added_now] = price[steps.view[added_now]]
    ordered_now = steps.event == ORDER
    value[ordered_now] = total[steps.visit[ordered_now]].round(2)

    events = _events_table(
        world, items, people, visits, calendar, rng,
        steps=steps, at=at, seen=seen, about=first_item, dwell=pause, value=value, batch=batch,
    )  # fmt: skip
    ordered_at = np.zeros(S)
    ordered_at[steps.visit[ordered_now]] = at[ordered_now]
    orders = _orders_table(
        world, items, people, visits, calendar, rng,
        visit=visit[bought], item=item[bought], quantity=quantity, price=price[bought],
        at=ordered_at[visit[bought]], batch=batch,
    )  # fmt: skip
    return Browsed(events=events, orders=orders)


def identities_table(people: People, *, start_us: int, batch: int) -> pa.Table:
    """The `identities` table: a customer's device becomes known when they sign up, or first sign in."""
    known = np.flatnonzero(people.created >= 0)
    return pa.table(
        {
            "anonymous_id": _devices(people, batch).take(pa.array(known)),
            "user_id": arrow.pick(people.ids, known),
            "at": arrow.times(people.created[known], start_us),
        }
    )


def _at_hour(
    world: World, people: People, calendar: Calendar, rng: np.random.Generator, person: np.ndarray, day: np.ndarray
) -> np.ndarray:
    """Times on given days, at hours that suit the person, in days UTC."""
    own = people.best_hour[person] + world.visits.hour_sigma * rng.standard_normal(len(person))
    anywhen = 7 + 16 * rng.random(len(person))
    hour = np.where(rng.random(len(person)) < world.visits.any_hour_share, anywhen, own) % 24
    return day + (hour - calendar.utc_offset_hours[people.country[person], day]) / 24


def _buys(world: World, people: People, visits: Visits, views: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    chance = responses.purchase_probability(
        people.buy_logit[visits.person],
        need=people.need(visits.person, visits.start, world=world),
        presence=people.presence(visits.person, visits.start, world=world),
        extra_views=views - world.funnel.views,
        world=world,
    )
    chance = np.where(visits.signed_in, chance, np.where(visits.stranger >= 0, world.orders.guest_order_share, 0))
    return np.asarray(rng.random(len(visits)) < chance)


def _items_seen(
    world: World,
    items: Items,
    people: People,
    visits: Visits,
    visit: np.ndarray,
    calendar: Calendar,
    rng: np.random.Generator,
) -> np.ndarray:
    """The item of each view: from the person's pool, where their interest is, or what everybody looks at."""
    tastes, V = world.tastes, len(visit)
    focus = (visits.start / tastes.wander_days).astype(int) + rng.geometric(tastes.pool_concentration, len(visits)) - 1
    place = (focus[visit] + rng.geometric(0.6, V) - 1) % tastes.pool
    item = people.pool[visits.person[visit], place].astype(np.int64)
    day = visits.start[visit]
    whole = day.astype(np.int64)
    in_season = rng.random(V) < items.season[calendar.months[whole] - 1, items.category[item]]
    explores = (rng.random(V) < tastes.explore_share) | ~items.on_sale(item, day) | ~in_season
    where = np.flatnonzero(explores)
    item[where] = arrow.draw(items.explored, whole[where] // DAYS_PER_WEEK, rng.random(len(where)))
    return item


@dataclass(frozen=True, eq=False)
class Steps:
    """Events in order: codes into EVENTS, visit, view (-1 = none), (E,); each visit's first event, (S,)."""

    event: np.ndarray
    visit: np.ndarray
    view: np.ndarray
    first: np.ndarray


def _lay_out(opening: np.ndarray, middle: np.ndarray, closing: np.ndarray, visit: np.ndarray) -> Steps:
    """Put the events of every visit one after another: opening, then view by view, then closing.

    The three say which events happen: (S, 4) per visit, (V, 4) per view of visit `visit`, (S, 2) per visit.
    """
    S = len(opening)
    per_view = middle.sum(axis=1)
    in_views = np.bincount(visit, weights=per_view, minlength=S).astype(np.int64)
    opens, closes = opening.sum(axis=1), closing.sum(axis=1)
    width = opens + in_views + closes
    first = np.cumsum(width) - width
    views_before = np.cumsum(per_view) - per_view
    first_view = np.cumsum(in_views) - in_views
    view_place = first[visit] + opens[visit] + views_before - first_view[visit]

    E = int(width.sum())
    event, view = np.empty(E, np.int8), np.full(E, -1, np.int64)
    for starts, happens, codes, is_view in (
        (first, opening, (SIGNED_UP, HOME, SEARCH, LIST), False),
        (view_place, middle, (VIEW, REVIEW, ADD, REMOVE), True),
        (first + opens + in_views, closing, (CHECKOUT, ORDER), False),
    ):
        place = starts.copy()
        for column, code in enumerate(codes):
            where = np.flatnonzero(happens[:, column])
            event[place[where]] = code
            if is_view:
                view[place[where]] = where
            place[where] += 1
    return Steps(event=event, visit=np.repeat(np.arange(S), width), view=view, first=first)


def _received(world: World, rng: np.random.Generator, at: np.ndarray) -> np.ndarray:
    """When rows reach us: after seconds, or, if late, hours."""
    delay = rng.standard_exponential(len(at), dtype=np.float32) * np.float32(world.funnel.event_delay_seconds / 86_400)
    late = np.flatnonzero(rng.random(len(at), dtype=np.float32) < world.funnel.late_share)
    received = at + delay
    received[late] += rng.exponential(world.funnel.late_hours / 24, len(late))
    return np.asarray(received)


def _devices(people: People, batch: int) -> pa.Array:
    return arrow.numbered(f"a{batch}-", np.arange(len(people)))


def _events_table(
    world: World,
    items: Items,
    people: People,
    visits: Visits,
    calendar: Calendar,
    rng: np.random.Generator,
    *,
    steps: Steps,
    at: np.ndarray,
    seen: np.ndarray,
    about: np.ndarray,
    dwell: np.ndarray,
    value: np.ndarray,
    batch: int,
) -> pa.Table:
    n = len(people)
    categories = arrow.strings([c.name for c in world.catalogue.categories])
    anonymous = pa.concat_arrays(
        [_devices(people, batch), arrow.numbered(f"s{batch}-", np.arange(max(visits.stranger, default=0) + 1))]
    )
    device = np.where(visits.stranger >= 0, n + visits.stranger, visits.person)
    anonymous_code = np.where(visits.signed_in & ~visits.signs_up, -1, device)
    category = np.where(seen >= 0, items.category[seen], -1)
    listed = (steps.event == LIST) | (steps.event == SEARCH)
    category[listed] = items.category[about[steps.visit[listed]]]
    page = np.where(steps.event == HOME, 0, np.where(steps.event == LIST, 1 + category, -1))
    pages = arrow.strings(["/", *(f"/{c.name.lower()}" for c in world.catalogue.categories)])
    return pa.table(
        {
            "event_id": arrow.numbered(f"e{batch}-", np.arange(len(at))),
            "user_id": arrow.pick(people.ids, np.where(visits.signed_in, visits.person, -1)[steps.visit]),
            "anonymous_id": arrow.pick(anonymous, anonymous_code[steps.visit]),
            "event": arrow.pick(arrow.strings(list(EVENTS)), steps.event),
            "occurred_at": arrow.times(at, calendar.start_us),
            "received_at": arrow.times(_received(world, rng, at), calendar.start_us),
            "session_id": arrow.pick(arrow.numbered(f"v{batch}-", np.arange(len(visits))), steps.visit),
            "item_id": arrow.pick(items.ids, seen),
            "category": arrow.pick(categories, category),
            "page": arrow.pick(pages, page),
            "query": arrow.pick(_queries(items), np.where(steps.event == SEARCH, about[steps.visit], -1)),
            "channel": arrow.pick(arrow.strings(list(CHANNELS)), visits.channel[steps.visit]),
            "dwell_seconds": arrow.numbers(np.where(PAGES[steps.event], np.round(dwell, 1), np.nan)),
            "value": arrow.numbers(value),
        }
    )


def _queries(items: Items) -> pa.Array:
    """What one types to find an item: its name without the first word, in lower case."""
    return arrow.strings([str(name).partition(" ")[2].partition(" No.")[0].lower() for name in items.names.to_pylist()])


def _orders_table(
    world: World,
    items: Items,
    people: People,
    visits: Visits,
    calendar: Calendar,
    rng: np.random.Generator,
    *,
    visit: np.ndarray,
    item: np.ndarray,
    quantity: np.ndarray,
    price: np.ndarray,
    at: np.ndarray,
    batch: int,
) -> pa.Table:
    L = len(visit)
    first = np.flatnonzero(np.diff(visit, prepend=-1) != 0)
    line = np.arange(L) - np.repeat(first, np.diff(np.append(first, L)))
    back_at = at + 2 + rng.exponential(world.orders.return_days, L)
    back = np.flatnonzero((rng.random(L) < world.orders.return_share) & (back_at < calendar.days - LAST_VISIT_DAYS))
    row = np.concatenate([np.arange(L), back])
    when = np.concatenate([at, back_at[back]])
    sign = np.where(np.arange(len(row)) < L, 1.0, -1.0)
    ids = pa.concat_arrays(
        [
            arrow.numbered(f"o{batch}-", visit),
            arrow.numbered(f"r{batch}-", visit[back]),
        ]
    )
    user: ArrayLike = np.where(visits.signed_in[visit], visits.person[visit], -1)[row]
    return pa.table(
        {
            "order_id": ids,
            "line_id": pa.array(line[row] + 1).cast(pa.string()),
            "user_id": arrow.pick(people.ids, user),
            "item_id": arrow.pick(items.ids, item[row]),
            "quantity": arrow.numbers(sign * quantity[row]),
            "unit_price": arrow.numbers(price[row]),
            "discount": arrow.numbers(np.zeros(len(row))),
            "occurred_at": arrow.times(when, calendar.start_us),
            "received_at": arrow.times(_received(world, rng, when), calendar.start_us),
        }
    )
