"""What happens in the shop: visits, the way from a view to an order, and returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

from simulation import arrow, responses
from simulation.catalogue import DAYS_PER_WEEK, Items, offer_ids
from simulation.messaging import Conversions, Plan, Sent
from simulation.people import People
from simulation.scene import LAST_VISIT_DAYS, Scene

EVENTS = (
    "signed_up", "page_viewed", "products_searched", "product_list_viewed", "product_viewed", "product_reviewed",
    "product_added", "product_removed", "checkout_started", "order_completed",
)  # fmt: skip
SIGNED_UP, HOME, SEARCH, LIST, VIEW, REVIEW, ADD, REMOVE, CHECKOUT, ORDER = range(len(EVENTS))
PAGES = np.isin(np.arange(len(EVENTS)), [HOME, SEARCH, LIST, VIEW])
ACTION_SECONDS = 4.0
WEB, APP, FIRST_MESSAGE_CHANNEL = 0, 1, 2
VISIT_CONCENTRATION = 0.6
"""A visit's views fall on the item in focus with this chance, else on the next ones of the pool (geometric)."""


@dataclass(frozen=True, eq=False)
class Visits:
    """Visits, sorted by visitor and time, S of them.

    Attributes:
        person: Row of `People`, whose tastes the visitor has, (S,).
        stranger: Number of the anonymous visitor who never signs up, -1 = a customer, (S,).
        start: Day, (S,).
        signed_in: Whether the visitor is known at that visit, (S,).
        signs_up: Whether the visitor signs up at that visit, (S,).
        certain: Whether it ends in an order whatever the odds: an offer brought it, (S,).
        channel: 0 web, 1 app, 2 + code of the message's channel, (S,).
    """

    person: np.ndarray
    stranger: np.ndarray
    start: np.ndarray
    signed_in: np.ndarray
    signs_up: np.ndarray
    certain: np.ndarray
    channel: np.ndarray

    def __len__(self) -> int:
        return len(self.person)

    def of(self, rows: np.ndarray) -> Visits:
        """Only these, by place or bool (S,)."""
        return Visits(**{f.name: getattr(self, f.name)[rows] for f in fields(Visits)})


@dataclass(frozen=True, eq=False)
class Browsed:
    """What the visits left behind.

    Attributes:
        events: The `events` table.
        orders: The `orders` table, returns included.
        conversions: The orders in the window of a decision about offers.
    """

    events: pa.Table
    orders: pa.Table
    conversions: Conversions


def make_visits(scene: Scene, people: People, sent: Sent, plan: Plan, rng: np.random.Generator) -> Visits:
    """All visits: of people's own accord, of strangers, after a click, and those that an offer brings."""
    own = own_visits(scene, people, rng)
    return in_order(scene, [own, reactions(scene, people, sent, plan, rng)])


def own_visits(scene: Scene, people: People, rng: np.random.Generator) -> Visits:
    """Visits of people's own accord and of strangers, whatever is sent or offered, in no order."""
    return _joined([_own(scene, people, rng), _strangers(scene, people, rng)])


def reactions(scene: Scene, people: People, sent: Sent, plan: Plan, rng: np.random.Generator) -> Visits:
    """Visits after a click, and those that an offer brings, in no order."""
    return _joined([_clicks(sent), _brought(scene, people, plan, rng)])


def in_order(scene: Scene, parts: Sequence[Visits]) -> Visits:
    """The visits of all parts within the simulated days, sorted by visitor and time."""
    visits = _joined(parts)
    inside = (visits.start >= 0) & (visits.start < scene.calendar.days - LAST_VISIT_DAYS)
    order = np.lexsort((visits.start, visits.person, visits.stranger))
    return visits.of(order[inside[order]])


def browse(
    scene: Scene,
    people: People,
    visits: Visits,
    plan: Plan,
    rng: np.random.Generator,
    *,
    batch: int,
    week: int | None = None,
) -> Browsed:
    """Play the visits out: which items are seen, which go into the cart, which are ordered and sent back.

    `week` keeps apart the ids of weeks that are played one after another; people keep their devices.
    """
    label = str(batch) if week is None else f"{batch}w{week}"
    S, funnel, items = len(visits), scene.world.funnel, scene.items
    views = rng.geometric(1 / funnel.views, S)
    moment = np.where(visits.signed_in, plan.moment(visits.person, visits.start, scene=scene), -1)
    offer = np.where(moment >= 0, plan.offer[visits.person, moment], -1)
    buys = _buys(scene, people, visits, rng, views=views, offer=offer)

    visit = np.repeat(np.arange(S), views)
    last = np.zeros(len(visit), bool)
    last[np.cumsum(views) - 1] = True
    item = _items_seen(scene, people, visits, visit, rng)
    buyer_adds = funnel.buyer_add_share + funnel.rebuy_add_share * items.rebuy[item]
    added = rng.random(len(visit)) < np.where(buys[visit], buyer_adds, funnel.add_share)
    removed = added & (rng.random(len(visit)) < funnel.remove_share)
    final = last & buys[visit]
    added, removed = added | final, removed & ~final
    reviewed = rng.random(len(visit)) < funnel.review_share
    in_cart = np.bincount(visit[added & ~removed], minlength=S) > 0
    checkout = buys | (in_cart & (rng.random(S) < funnel.abandon_checkout_share))

    opening = np.column_stack(
        [
            visits.signs_up,
            rng.random(S) < funnel.home_share,
            rng.random(S) < funnel.search_share,
            rng.random(S) < funnel.list_share,
        ]
    )
    middle = np.column_stack([np.ones(len(visit), bool), reviewed, added, removed])
    steps = _lay_out(opening, middle, np.column_stack([checkout, buys]), visit)
    dwell = np.exp(np.float32(funnel.dwell_sigma) * rng.standard_normal(len(steps.event), dtype=np.float32))
    dwell *= np.where(PAGES[steps.event], funnel.dwell_seconds, ACTION_SECONDS).astype(np.float32)
    before = np.cumsum(dwell, dtype=np.float64) - dwell
    at = visits.start[steps.visit] + (before - before[steps.first[steps.visit]]) / 86_400
    at = np.minimum(at, scene.calendar.days - 1e-6)

    ordered = np.flatnonzero(steps.event == ORDER)
    ordered_at = np.zeros(S)
    ordered_at[steps.visit[ordered]] = at[ordered]
    price = items.price_at(item, visits.start[visit])
    lines = _lines(
        scene,
        rng,
        views=np.flatnonzero(added & ~removed & buys[visit]),
        visit=visit,
        item=item,
        price=price,
        offer=offer,
    )
    paid = np.bincount(lines.visit, weights=lines.quantity * lines.price - lines.discount, minlength=S)
    value = np.full(len(at), np.nan)
    adding = np.flatnonzero(steps.event == ADD)
    value[adding] = price[steps.view[adding]]
    value[ordered] = paid[steps.visit[ordered]].round(2)

    within = np.flatnonzero(buys & (moment >= 0))
    return Browsed(
        events=_events_table(
            scene, people, visits, rng,
            steps=steps, at=at, item=item, first_item=item[np.cumsum(views) - views],
            dwell=dwell, value=value, batch=batch, label=label,
        ),
        orders=_orders_table(scene, people, visits, lines, rng, ordered_at=ordered_at, label=label),
        conversions=Conversions(
            decision=plan.decision[visits.person[within], moment[within]],
            at=ordered_at[within],
            value=paid[within].round(2),
        ),
    )  # fmt: skip


def identities_table(scene: Scene, people: People, rng: np.random.Generator, *, batch: int) -> pa.Table:
    """The `identities` table: a device becomes known at sign-up; on a few, another customer signs in later."""
    n = len(people)
    other = 1 + np.flatnonzero(rng.random(n - 1) < scene.world.people.shared_device_share)
    owner = other - 1
    later = np.maximum(people.created[other], people.created[owner])
    at = later + (scene.calendar.days - later) * rng.uniform(0.1, 0.9, len(other))
    user, device = np.concatenate([np.arange(n), other]), np.concatenate([np.arange(n), owner])
    return pa.table(
        {
            "anonymous_id": _devices(people, batch).take(pa.array(device)),
            "user_id": arrow.pick(people.ids, user),
            "at": arrow.times(np.concatenate([people.created, at]), scene.calendar.start_us),
        }
    )


def _joined(parts: Sequence[Visits]) -> Visits:
    return Visits(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Visits)})


def _own(scene: Scene, people: People, rng: np.random.Generator) -> Visits:
    """Visits of people's own accord, before they sign up too, and the visit at which they do."""
    world = scene.world
    count = rng.poisson(people.visit_rate(np.arange(scene.calendar.days), scene=scene))
    person, day = np.nonzero(count)
    times = count[person, day]
    person, day = np.repeat(person, times), np.repeat(day, times)
    start = _at_their_hour(scene, people, rng, person, day)
    known = (start > people.created[person]) & (rng.random(len(start)) >= world.visits.signed_out_share)
    joins = np.flatnonzero(people.created >= 0)
    signs_up = np.arange(len(start) + len(joins)) >= len(start)
    channel = np.where(rng.random(len(signs_up)) < world.visits.app_share, APP, WEB)
    return _visits(
        np.concatenate([person, joins]),
        np.concatenate([start, people.created[joins]]),
        signed_in=np.concatenate([known, np.ones(len(joins), bool)]),
        signs_up=signs_up,
        channel=channel,
    )


def _strangers(scene: Scene, people: People, rng: np.random.Generator) -> Visits:
    """Visits of people who never sign up; each has the tastes of some customer."""
    visits, days = scene.world.visits, scene.calendar.days
    count = round(len(people) * visits.strangers_per_user)
    stranger = np.repeat(np.arange(count), 1 + rng.poisson(max(visits.stranger_visits - 1, 0), count))
    like = rng.integers(len(people), size=count)[stranger]
    seen = rng.uniform(0, days, count)[stranger] + rng.exponential(4, len(stranger))
    start = _at_their_hour(scene, people, rng, like, np.minimum(seen, days - 1).astype(np.int64))
    return _visits(like, start, stranger=stranger, signed_in=np.zeros(len(like), bool))


def _clicks(sent: Sent) -> Visits:
    """The visit that a clicked message brings."""
    rows = np.flatnonzero(~np.isnan(sent.clicked))
    return _visits(sent.person[rows], sent.clicked[rows], channel=FIRST_MESSAGE_CHANNEL + sent.channel[rows])


def _brought(scene: Scene, people: People, plan: Plan, rng: np.random.Generator) -> Visits:
    """The orders that would not have been without an offer."""
    test = scene.world.experiment
    person, k = np.nonzero(plan.offer >= 0)
    at = plan.at[person, k]
    chance = responses.extra_order_probability(
        people.offer_lift[person, plan.offer[person, k]],
        presence=people.presence(person, at, world=scene.world),
        absent_share=test.absent_share,
    )
    rows = np.flatnonzero(rng.random(len(person)) < chance)
    start = at[rows] + test.window_days * rng.uniform(0.001, 0.999, len(rows))
    certain = np.ones(len(rows), bool)
    return _visits(person[rows], start, certain=certain, channel=np.full(len(rows), FIRST_MESSAGE_CHANNEL))


def _visits(
    person: np.ndarray,
    start: np.ndarray,
    *,
    stranger: np.ndarray | None = None,
    signed_in: np.ndarray | None = None,
    signs_up: np.ndarray | None = None,
    certain: np.ndarray | None = None,
    channel: np.ndarray | None = None,
) -> Visits:
    """Visits, by default of signed-in customers on the web."""
    n = len(person)
    return Visits(
        person=person,
        start=start,
        stranger=np.full(n, -1) if stranger is None else stranger,
        signed_in=np.ones(n, bool) if signed_in is None else signed_in,
        signs_up=np.zeros(n, bool) if signs_up is None else signs_up,
        certain=np.zeros(n, bool) if certain is None else certain,
        channel=np.full(n, WEB) if channel is None else channel,
    )


def _at_their_hour(
    scene: Scene, people: People, rng: np.random.Generator, person: np.ndarray, day: np.ndarray
) -> np.ndarray:
    """Times on given days at hours that suit each person, in days UTC."""
    visits, n = scene.world.visits, len(person)
    own = people.best_hour[person] + visits.hour_sigma * rng.standard_normal(n)
    hour = np.where(rng.random(n) < visits.any_hour_share, rng.uniform(7, 23, n), own) % 24
    return scene.calendar.at_hour(day, hour, people.country[person])


def _buys(
    scene: Scene, people: People, visits: Visits, rng: np.random.Generator, *, views: np.ndarray, offer: np.ndarray
) -> np.ndarray:
    """Whether each visit ends in an order; those annoyed by an offer let a share of theirs go."""
    world, S = scene.world, len(visits)
    chance = people.purchase_probability(visits.person, visits.start, views, world=world)
    stays = 1 - np.where(offer >= 0, people.offer_annoyance[visits.person, offer], 0)
    guests = np.where(visits.stranger >= 0, world.orders.guest_order_share, 0)
    return np.asarray(visits.certain | (rng.random(S) < np.where(visits.signed_in, chance * stays, guests)))


def _items_seen(
    scene: Scene, people: People, visits: Visits, visit: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The item of each view: from the person's pool, where their interest is, or what everybody looks at."""
    tastes, items, V = scene.world.tastes, scene.items, len(visit)
    focus = (visits.start / tastes.wander_days).astype(np.int64) + rng.geometric(tastes.pool_concentration, len(visits))
    place = (focus[visit] + rng.geometric(VISIT_CONCENTRATION, V) - 2) % tastes.pool
    item = people.pool[visits.person[visit], place].astype(np.int64)
    day = visits.start[visit]
    whole = day.astype(np.int64)
    in_season = rng.random(V) < items.season[scene.calendar.months[whole] - 1, items.category[item]]
    explores = (rng.random(V) < tastes.explore_share) | ~items.on_sale(item, day) | ~in_season
    where = np.flatnonzero(explores)
    item[where] = arrow.draw(items.explored, whole[where] // DAYS_PER_WEEK, rng.random(len(where)))
    return item


@dataclass(frozen=True, eq=False)
class Lines:
    """Order lines, sorted by visit, L of them: visit, item, quantity, price, discount, redeemed offer (-1 = none)."""

    visit: np.ndarray
    item: np.ndarray
    quantity: np.ndarray
    price: np.ndarray
    discount: np.ndarray
    offer: np.ndarray


def _lines(
    scene: Scene,
    rng: np.random.Generator,
    *,
    views: np.ndarray,
    visit: np.ndarray,
    item: np.ndarray,
    price: np.ndarray,
    offer: np.ndarray,
) -> Lines:
    """What is ordered of the `views` bought: one line for each item of a visit, less the discount of its offer."""
    world, items = scene.world, scene.items
    key = visit[views] * len(items.ids) + item[views]
    _, first, same = np.unique(key, return_index=True, return_inverse=True)
    quantity = np.bincount(
        same, weights=rng.geometric(1 - world.orders.quantity_more, len(views)), minlength=len(first)
    )
    bought = views[first]
    visit, item, price = visit[bought], item[bought], price[bought]

    offered = offer[visit]
    names = [category.name for category in world.catalogue.categories]
    only = np.array([names.index(o.category) if o.category else -1 for o in world.offers])
    about = {name: np.array([getattr(o, name) for o in world.offers]) for name in ("kind", "value", "min_spend")}
    eligible = (offered >= 0) & ((only[offered] < 0) | (only[offered] == items.category[item]))
    gross = np.where(eligible, quantity * price, 0)
    spent = np.bincount(visit, weights=gross, minlength=len(offer))[visit]
    redeemed = (spent > 0) & (spent >= about["min_spend"][offered])
    kind, worth = about["kind"][offered], about["value"][offered]
    share = np.select(
        [kind == "percent", kind == "amount"], [worth / 100, np.minimum(worth / np.maximum(spent, 0.01), 1)], 0
    )
    discount = np.where(redeemed, np.round(share * gross, 2), 0)
    return Lines(visit, item, quantity, price, discount, np.where(redeemed, offered, -1))


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


def _received(scene: Scene, rng: np.random.Generator, at: np.ndarray) -> np.ndarray:
    """When rows reach us: after seconds, or, if late, hours."""
    funnel = scene.world.funnel
    delay = rng.standard_exponential(len(at), dtype=np.float32) * np.float32(funnel.event_delay_seconds / 86_400)
    received = at + delay
    late = np.flatnonzero(rng.random(len(at), dtype=np.float32) < funnel.late_share)
    received[late] += rng.exponential(funnel.late_hours / 24, len(late))
    return np.asarray(received)


def _devices(people: People, batch: int) -> pa.Array:
    return arrow.numbered(f"a{batch}-", np.arange(len(people)))


def _events_table(
    scene: Scene,
    people: People,
    visits: Visits,
    rng: np.random.Generator,
    *,
    steps: Steps,
    at: np.ndarray,
    item: np.ndarray,
    first_item: np.ndarray,
    dwell: np.ndarray,
    value: np.ndarray,
    batch: int,
    label: str,
) -> pa.Table:
    items, start_us, visit = scene.items, scene.calendar.start_us, steps.visit
    names = [category.name for category in scene.world.catalogue.categories]
    channels = ["web", "app", *(channel.name for channel in scene.world.messages.channels)]
    strangers = arrow.numbered(f"s{batch}-", np.arange(visits.stranger.max(initial=-1) + 1))
    device = np.where(visits.stranger >= 0, len(people) + visits.stranger, visits.person)
    nameless = ~visits.signed_in | visits.signs_up
    seen = np.where(steps.view >= 0, item[steps.view], -1)
    about = np.where(np.isin(steps.event, [SEARCH, LIST]), first_item[visit], seen)
    category = np.where(about >= 0, items.category[about], -1)
    page = np.select([steps.event == HOME, steps.event == LIST], [0, 1 + category], -1)
    return pa.table(
        {
            "event_id": arrow.numbered(f"e{label}-", np.arange(len(at))),
            "user_id": arrow.pick(people.ids, np.where(visits.signed_in, visits.person, -1)[visit]),
            "anonymous_id": arrow.pick(
                pa.concat_arrays([_devices(people, batch), strangers]), np.where(nameless, device, -1)[visit]
            ),
            "event": arrow.pick(arrow.strings(list(EVENTS)), steps.event),
            "occurred_at": arrow.times(at, start_us),
            "received_at": arrow.times(_received(scene, rng, at), start_us),
            "session_id": arrow.pick(arrow.numbered(f"v{label}-", np.arange(len(visits))), visit),
            "item_id": arrow.pick(items.ids, seen),
            "category": arrow.pick(arrow.strings(names), category),
            "page": arrow.pick(arrow.strings(["/", *(f"/{name.lower()}" for name in names)]), page),
            "query": arrow.pick(_queries(items), np.where(steps.event == SEARCH, about, -1)),
            "channel": arrow.pick(arrow.strings(channels), visits.channel[visit]),
            "dwell_seconds": arrow.numbers(np.where(PAGES[steps.event], np.round(dwell, 1), np.nan)),
            "value": arrow.numbers(value),
        }
    )


def _queries(items: Items) -> pa.Array:
    """What one types to find an item: its name without the first word and the number, in lower case."""
    return arrow.strings([name.partition(" ")[2].partition(" No.")[0].lower() for name in items.names.to_pylist()])


def _orders_table(
    scene: Scene,
    people: People,
    visits: Visits,
    lines: Lines,
    rng: np.random.Generator,
    *,
    ordered_at: np.ndarray,
    label: str,
) -> pa.Table:
    """The `orders` table: the lines bought, and those sent back at the price that was paid."""
    orders, L, start_us = scene.world.orders, len(lines.visit), scene.calendar.start_us
    first = np.flatnonzero(np.diff(lines.visit, prepend=-1) != 0)
    number = 1 + np.arange(L) - np.repeat(first, np.diff(np.append(first, L)))
    at = ordered_at[lines.visit]
    back_at = at + 2 + rng.exponential(orders.return_days, L)
    back = np.flatnonzero((rng.random(L) < orders.return_share) & (back_at < scene.calendar.days - LAST_VISIT_DAYS))
    row = np.concatenate([np.arange(L), back])
    when = np.concatenate([at, back_at[back]])
    returned = np.arange(len(row)) >= L
    paid = np.round(lines.price - lines.discount / lines.quantity, 2)
    return pa.table(
        {
            "order_id": pa.concat_arrays(
                [arrow.numbered(f"o{label}-", lines.visit), arrow.numbered(f"r{label}-", lines.visit[back])]
            ),
            "line_id": pa.array(number[row]).cast(pa.string()),
            "user_id": arrow.pick(people.ids, np.where(visits.signed_in, visits.person, -1)[lines.visit[row]]),
            "item_id": arrow.pick(scene.items.ids, lines.item[row]),
            "quantity": arrow.numbers(np.where(returned, -1, 1) * lines.quantity[row]),
            "unit_price": arrow.numbers(np.where(returned, paid[row], lines.price[row])),
            "discount": arrow.numbers(np.where(returned, 0, lines.discount[row])),
            "offer_id": arrow.pick(offer_ids(scene.world), np.where(returned, -1, lines.offer[row])),
            "occurred_at": arrow.times(when, start_us),
            "received_at": arrow.times(_received(scene, rng, when), start_us),
        }
    )
