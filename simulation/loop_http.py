"""The loop over HTTP: a running service decides for the simulated people, hears what they do, and is trained anew.

The service's clock is the real one, so time passes by moving the past: after each week everything that the workspace
holds lies a week further back, and what the people then did is sent as of the week just over.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from data.checks import check
from data.errors import AttuneError, DataError, ModelFileError, WorkspaceError
from data.files import replacing
from data.progress import track
from data.state import State, keys
from data.state.schema import Utc
from data.state.schema import tables as state_tables
from data.state.sync import sync
from data.tables import connect
from data.workspace import Workspace
from features.snapshots import build, span
from models.offers import NOTHING
from registry.versions import CHAMPION, Registry
from serving.client import Client, ServiceError
from simulation.catalogue import DAYS_PER_WEEK
from simulation.loop import Dealt, Loop
from training.jobs import promote, train

OFFERS: Literal["offers"] = "offers"
PLACEMENT = "weekly"
OF_LINES = ("line_id", "item_id", "quantity", "unit_price", "discount", "offer_id")
ROWS = 500
"""Rows in a request."""
HEARD_SECONDS = 30
"""How long the service may take to take over a champion."""
WEEK = timedelta(days=DAYS_PER_WEEK)


@dataclass(frozen=True)
class Week:
    """What came of a week.

    Attributes:
        number: From 1.
        asked: People decided for.
        model: True profit of a decision about the model arm; NaN where nobody was in it.
        oracle: Of the best offer for each of these people.
        unsubscribed: From the first channel so far, in the loop and before.
        learnt: Which version decides from now on, and why.
    """

    number: int
    asked: int
    model: float
    oracle: float
    unsubscribed: int
    learnt: str


def refuse_tables(shop: Workspace) -> None:
    """Refuse a workspace that has tables, before its settings are replaced by those of the loop.

    Raises:
        WorkspaceError: there are some.
    """
    if shop.tables_dir.is_dir() and any(shop.tables_dir.iterdir()):
        raise WorkspaceError(f"{shop.tables_dir} holds tables; the loop makes its own. Choose another --workspace.")


def prepare(world: Loop, shop: Workspace) -> str:
    """Write the history as the shop's tables, check them, and train what decides in the first week; says what.

    Raises:
        WorkspaceError: there are tables already.
    """
    refuse_tables(shop)
    with replacing(shop.tables_dir) as folder:
        folder.mkdir()
        for name, rows in world.history.items():
            pq.write_table(rows.unify_dictionaries(), folder / f"{name}.parquet")
    return learn(shop)


def known_of(shop: Workspace) -> pd.DataFrame:
    """Features of everybody as the tables end, by user_id."""
    (snapshot,) = build(shop, [span(shop.checked).end])
    return snapshot.frame().set_index("user_id")


def drive(world: Loop, shop: Workspace, *, url: str) -> Iterator[Week]:
    """Let the weeks pass, one at each step.

    The workspace must be that of the service, since sending tables, training and the passing of time need it.

    Args:
        world: Whose weeks have not begun.
        shop: Prepared.
        url: Of the running service.

    Raises:
        AttuneError: the service refused something, or cannot be reached.
    """
    state = State.of(shop)
    key = keys.create(state, role="admin", name="simulate")
    with Client(url, key=key, timeout_seconds=30, retries=5) as client:
        _until_in_force(client)
        for number in range(world.weeks):
            started = datetime.now(UTC)
            asked, true = world.asked(number), world.profit(number)
            dealt = ask(client, [world.user_ids[row] for row in asked], channel=world.channel)
            fresh = world.live(number, dealt)
            earned = true[world.rows_of(dealt.user_id), world.codes_of(dealt.offer_id)]
            mine = _in_arm(state, dealt, "model")
            _let_a_week_pass(shop, state, started)
            began = datetime.now(UTC)
            tell(client, fresh, back=world.starts(number + 1) - world.begin)
            _reached_at_once(state, began)
            learnt = learn(shop, state)
            _wait_until_heard(url, shop)
            best = true[world.rows_of(dealt.user_id)].max(axis=1)
            yield Week(
                number=number + 1,
                asked=len(dealt.user_id),
                model=float(earned[mine].mean()) if mine.any() else np.nan,
                oracle=float(best[mine].mean()) if mine.any() else np.nan,
                unsubscribed=int(world.unsubscribed().sum()),
                learnt=learnt,
            )


def ask(client: Client, users: Sequence[str], *, channel: str) -> Dealt:
    """The offer of each person, from the service; those whose decision could not be stored are left out."""
    decided = []
    for user in track(users, "asking for offers"):
        answer = _done(client.offers, user_id=user, placement=PLACEMENT, channel=channel)
        if answer.decision_id is not None:
            decided.append((user, answer.offers[0].offer_id if answer.offers else NOTHING, answer.decision_id))
    users_, offers, ids = zip(*decided, strict=True) if decided else ((), (), ())
    return Dealt(users_, offers, ids)


def tell(client: Client, fresh: Mapping[str, pa.Table], *, back: timedelta) -> None:
    """Send a week's rows by the routes of apps and shops, `back` earlier than the world has them.

    Raises:
        DataError: the service refused a row.
    """
    rows = {name: _plain(table, back) for name, table in fresh.items()}
    events = _with_orders(rows.get("events", []), rows.get("orders", []))
    for name in ("users", "items", "messages"):
        for part in _parts(rows.get(name, [])):
            _taken(_done(client.tables, **{name: part}))
    for part in track(_parts(events), "sending events"):
        _taken(_done(client.events, events=part))
    for part in _parts(rows.get("outcomes", [])):
        _taken(_done(client.outcomes, outcomes=part))
    consents: dict[tuple[str, str], dict[str, bool]] = defaultdict(dict)
    for row in rows.get("consents", []):
        consents[row["user_id"], row["at"]][row["purpose"]] = row["granted"]
    for (user, at), said in consents.items():
        _done(client.consents, user_id=user, consents=said, at=at)
    for row in rows.get("preferences", []):
        _done(client.preferences, user_id=row["user_id"], preferences={row["name"]: row["value"]}, at=row["at"])


def learn(shop: Workspace, state: State | None = None) -> str:
    """Sync, check, features, train offers, gate; in words what came of it.

    Raises:
        DataError: the tables are not fit to train on.
    """
    if state is not None:
        sync(shop, state)
    audit = check(shop)
    if not audit.fit:
        raise DataError(f"not fit to train on: {'; '.join(audit.failures)}. See {shop.reports_dir}.")
    build(shop, [span(shop.checked).end])
    try:
        (result,) = train(shop, OFFERS).results
        verdict = promote(shop, OFFERS)
    except (DataError, ModelFileError, ValueError) as error:  # too little to learn from is no reason to stop
        return f"nothing new: {error}"
    return f"{result.version}: {result.chosen}" + ("" if verdict.passed else f"; stays out: {verdict.reasons[0]}")


def _until_in_force(client: Client) -> None:
    """Wait until the service knows the key that was just made."""
    until = time.monotonic() + HEARD_SECONDS
    while True:
        try:
            client.tables()
        except ServiceError as error:
            if error.status != httpx.codes.UNAUTHORIZED or time.monotonic() > until:
                raise AttuneError(f"the service: {error} Is it the one of this workspace?") from error
            time.sleep(0.3)
        else:
            return


def _done(route: Any, **fields: Any) -> Any:
    """What a route answers; it must not refuse.

    Raises:
        AttuneError: it did.
    """
    try:
        return route(**fields)
    except ServiceError as error:
        raise AttuneError(f"the service: {error}") from error


def _taken(answer: Any) -> None:
    if answer.refused:
        first = answer.refused[0]
        raise DataError(f"the service refused {len(answer.refused)} rows; the first, {first.id}: {first.message}")


def _plain(table: pa.Table, back: timedelta) -> list[dict[str, Any]]:
    """Rows as JSON wants them, times so much earlier, without what is missing or has not happened by then."""
    now = datetime.now(UTC)
    rows = []
    for row in table.to_pylist():
        told = {name: value - back if isinstance(value, datetime) else value for name, value in row.items()}
        told.pop("received_at", None)
        rows.append({
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in told.items()
            if value is not None and not (isinstance(value, datetime) and value > now)
        })  # fmt: skip
    return rows


def _with_orders(events: list[dict[str, Any]], lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events, the orders' lines in their `order_completed`, and one `order_refunded` for each line sent back."""
    products: dict[str, list[dict[str, Any]]] = defaultdict(list)
    back = []
    for line in lines:
        product: dict[str, Any] = {name: line[name] for name in OF_LINES if name in line}
        if line["quantity"] > 0:
            products[line["order_id"][1:]].append(product)
        elif "user_id" in line:
            event_id = f"{line['order_id']}/{line['line_id']}"
            back.append({
                "event_id": event_id, "event": "order_refunded", "user_id": line["user_id"],
                "occurred_at": line["occurred_at"], "order_id": line["order_id"], "products": [product],
            })  # fmt: skip
    for event in events:
        visit = event["session_id"][1:]
        if event["event"] == "order_completed" and visit in products:
            event.update(order_id=f"o{visit}", products=products[visit])
    return [*events, *back]


def _parts(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]


def _in_arm(state: State, dealt: Dealt, arm: str) -> np.ndarray:
    """Which of the decisions were made in an arm, as the service logged them, bool (n,)."""
    table = state_tables["decisions"]
    with state.reading() as connection:
        found = connection.execute(sa.select(table.c.decision_id).where(table.c.arm == arm)).scalars()
        return np.asarray(pd.Series(list(dealt.decision_id)).isin(list(found)))


def _let_a_week_pass(shop: Workspace, state: State, started: datetime) -> None:
    """Move everything a week back, and this week's decisions to the beginning of its first day."""
    midnight = started.replace(hour=0, minute=0, second=0, microsecond=0)
    decisions = state_tables["decisions"]
    with state.writing() as connection:
        connection.execute(sa.update(decisions).where(decisions.c["at"] >= started).values(at=midnight))
        for table in state_tables.values():
            times = [column for column in table.c if isinstance(column.type, Utc) and column.name != "changed_at"]
            if times:
                connection.execute(sa.update(table).values({c.name: _earlier(c, connection) for c in times}))
    for file in sorted(shop.tables_dir.rglob("*.parquet")):
        con = connect().con
        source = f"read_parquet('{file}')"
        described = con.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
        times_ = [
            f'"{name}" - INTERVAL {DAYS_PER_WEEK} DAY AS "{name}"' for name, kind, *_ in described if "TIME" in kind
        ]
        if times_:
            with replacing(file) as beside:
                con.execute(
                    f"COPY (SELECT * REPLACE ({', '.join(times_)}) FROM {source}) TO '{beside}' (FORMAT parquet)"
                )


def _earlier(column: Any, connection: sa.Connection) -> Any:
    """A time of the state a week before."""
    if connection.dialect.name == "postgresql":
        return column - WEEK
    return sa.func.strftime("%Y-%m-%d %H:%M:%f000", column, f"-{DAYS_PER_WEEK} days", type_=sa.Text)


def _reached_at_once(state: State, since: datetime) -> None:
    """What was sent since reached the shop as it happened: it is the past only to us that it is sent at once."""
    with state.writing() as connection:
        for name in ("events", "orders"):
            table = state_tables[name]
            connection.execute(
                sa.update(table).where(table.c.received_at >= since).values(received_at=table.c.occurred_at)
            )


def _wait_until_heard(url: str, shop: Workspace) -> None:
    """Until the service answers by the champion of the registry, or takes too long: it goes on with the one before."""
    champion = Registry.of(shop).version(OFFERS, CHAMPION)
    until = time.monotonic() + HEARD_SECONDS
    time.sleep(2 * shop.settings.serving.poll_seconds)
    while champion is not None and time.monotonic() < until:
        answer = httpx.get(f"{url}/readyz", timeout=30)
        if answer.is_success and answer.json()["model_versions"].get(OFFERS) == str(champion.number):
            return
        time.sleep(0.5)
