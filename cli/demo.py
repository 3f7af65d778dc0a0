"""`attune demo`: a simulated shop, from raw tables to a live answer, with every step shown."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption, option_of

if TYPE_CHECKING:
    import httpx
    from rich.console import Console

    from data.workspace import Workspace

LABEL = "churn"
"""The one propensity that is trained: all of them would take minutes more."""
SLOT = "headline"
"""Of the simulated shop's variants."""
CHANNEL = "email"


def demo(
    *,
    users: Annotated[int, typer.Option(help="Customers of the simulated shop.", min=500)] = 20_000,
    days: Annotated[int, typer.Option(help="Days of history.", min=150)] = 180,
    picture: Annotated[Path | None, typer.Option(help="Keep what is shown as an SVG file.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Show the whole line: shop, checks, features, models, gate, service, live decisions, and what they earned.

    Takes about three minutes. Everything stays in the workspace, to look at and to go on with.

    Example: `attune demo --users 2000 --workspace small`
    """
    from rich.console import Console

    console = Console(record=picture is not None, highlight=False, width=140 if picture else None)
    shop = _workspace(workspace)
    _simulate(console, shop, users=users, days=days)
    _check(console, shop)
    _features(console, shop)
    _train(console, shop)
    _promote(console, shop)
    _ask(console, shop)
    _report(console, shop)
    console.print(
        f"\nAll of it is in [bold]{workspace}/[/]: tables, audit, snapshots, models. Go on with\n"
        f"  attune serve {option_of(workspace)}\n"
        f"  mlflow ui --backend-store-uri {shop.registry_uri}\n"
        "  attune import --help    for a shop of your own"
    )
    if picture:
        console.save_svg(str(picture), title="attune demo")


def _workspace(path: Path) -> Workspace:
    from data.errors import WorkspaceError
    from data.workspace import Workspace

    made = Workspace(path)
    if made.tables_dir.is_dir() and any(made.tables_dir.iterdir()) and not (path / "truth").is_dir():
        raise WorkspaceError(
            f"{path} holds a shop of its own, which the demo would overwrite. Choose another --workspace."
        )
    return Workspace.create(path, name="the simulated shop", currency="EUR")


@contextmanager
def _step(console: Console, title: str) -> Iterator[None]:
    """A headline, then what the body prints, then how long it took."""
    console.print(f"\n[bold cyan]{title}[/]")
    started = time.monotonic()
    yield
    console.print(f"[dim]{time.monotonic() - started:.0f} s[/]")


def _simulate(console: Console, shop: Workspace, *, users: int, days: int) -> None:
    from simulation.shop import simulate

    with _step(console, "1. A simulated shop"):
        made = simulate(shop, users=users, days=days)
        console.print(
            f"{made.users:,} customers, {made.days} days to {made.end:%Y-%m-%d}: "
            + ", ".join(f"{made.rows[table]:,} {table}" for table in ("events", "orders", "messages", "items"))
        )


def _check(console: Console, shop: Workspace) -> None:
    from data.checks import check

    with _step(console, "2. Tables checked: bad rows go to quarantine, each with its reasons"):
        audit = check(shop)
        good, bad = sum(table.good for table in audit.tables), sum(table.bad for table in audit.tables)
        console.print(f"{good:,} good rows, {bad:,} in quarantine ({bad / (good + bad):.2%}). The worst reasons:")
        for finding in sorted(audit.findings, key=lambda finding: -finding.rows)[:3]:
            console.print(f"- {finding}", markup=False)
        for failure in audit.failures:
            console.print(f"[red]not fit:[/] {failure}")
        if not audit.fit:
            raise typer.Exit(1)


def _features(console: Console, shop: Workspace) -> None:
    from features.snapshots import build

    with _step(console, "3. Features, each as it was known at its cutoff"):
        snapshots = build(shop)
        newest = snapshots[-1]
        console.print(
            f"{len(snapshots)} snapshots from {snapshots[0].cutoff:%Y-%m-%d} to {newest.cutoff:%Y-%m-%d}; "
            f"the last has {newest.rows:,} customers and {len(newest.columns)} features"
        )


def _train(console: Console, shop: Workspace) -> None:
    from cli.comparisons import show
    from training.jobs import train

    with _step(console, "4. Models, judged on what came after and beside honest baselines (95 % intervals)"):
        models = train(shop, "recommender"), train(shop, "offers"), train(shop, "propensity", label=LABEL)
        for trained in models:
            for result in trained.results:
                show(result.test, f"{result.version}: {result.chosen}", console=console)
        console.print("attune train all makes the others too: purchases, clicks, wordings, value, the hour to send at")


def _promote(console: Console, shop: Workspace) -> None:
    from training.jobs import challengers, promote

    with _step(console, "5. The gate: who may go live"):
        for verdict in [promote(shop, name) for name in challengers(shop)]:
            mark = "[green]live[/]" if verdict.passed else "[yellow]refused[/]"
            console.print(f"{mark} {verdict.version}: {'; '.join(verdict.reasons)}")


def _ask(console: Console, shop: Workspace) -> None:
    with _step(console, "6. A live service"), _serving(shop) as client:
        user_id, new_items = _somebody(shop)
        shown = _show_items(console, client, shop, f"POST /v1/recommend for {user_id}", user_id=user_id)
        viewed = next(item_id for item_id in new_items if item_id not in shown)
        event = {
            "event_id": f"demo-{_now()}",
            "user_id": user_id,
            "event": "product_viewed",
            "item_id": viewed,
            "occurred_at": _now(),
        }
        _post(client, "/v1/events", events=[event])
        _show_items(console, client, shop, f"the same, a moment after {user_id} viewed {viewed}", user_id=user_id)
        _show_scores(console, client, user_id)
        _show_decision(console, client, user_id)


def _report(console: Console, shop: Workspace) -> None:
    from evaluation.uplift_report import text, write
    from training.campaign_report import campaign_report

    with _step(console, "7. What the shop's offers earned, against customers left alone"):
        report = campaign_report(shop, kinds=["offer"])
        page = shop.reports_dir / "uplift.html"
        write(report, page)
        console.print(text(report), markup=False)
        console.print(f"The page: {page}", markup=False)


def _show_items(console: Console, client: httpx.Client, shop: Workspace, title: str, *, user_id: str) -> list[str]:
    """Ask for items and print them; their ids."""
    from rich.table import Table

    started = time.perf_counter()
    answer = _post(client, "/v1/recommend", user_id=user_id, k=6)
    milliseconds = (time.perf_counter() - started) * 1000
    item_ids = [item["item_id"] for item in answer["items"]]
    names = _names(shop, item_ids)
    shown = Table(
        "", "item", "category", "why",
        box=None, header_style="bold",
        title=f"{title} ({answer['model_version']}, {milliseconds:.0f} ms)", title_justify="left", title_style="italic",
    )  # fmt: skip
    for place, item in enumerate(answer["items"], start=1):
        name, category = names.get(item["item_id"], ("", ""))
        shown.add_row(str(place), f"{item['item_id']} {name}", category, item["reason"] or "")
    console.print(shown)
    return item_ids


def _show_scores(console: Console, client: httpx.Client, user_id: str) -> None:
    (person,) = _post(client, "/v1/score", user_ids=[user_id])["users"]
    console.print(f"POST /v1/score for {user_id} (lifecycle stage: {person['lifecycle_stage']})", style="italic")
    for label, score in person["scores"].items():
        if score["probability"] is None:
            console.print(f"  {label}: {score['note']}")
            continue
        reasons = ", ".join(f"{reason['feature']} = {_short(reason['value'])}" for reason in score["reasons"])
        console.print(f"  {label}: {score['probability']:.0%}, most of all because of {reasons}")


def _show_decision(console: Console, client: httpx.Client, user_id: str) -> None:
    """One decision for a page, and what the person may ask about it."""
    decided = _post(client, "/v1/decide", user_id=user_id, channel=CHANNEL, offer={}, variants=[{"slot": SLOT}])
    console.print(f"POST /v1/decide for a mail to {user_id}: an offer and a headline that go together", style="italic")
    for rule in decided["held_back"]:
        console.print(f"  nothing is sent: {rule['reason']}", markup=False)
    if not decided["held_back"]:
        _show_parts(console, decided)
    told = _post(client, "/v1/explain", user_id=user_id)
    known = ", ".join(f"{table['rows']:,} {table['table']}" for table in told["known"])
    title = f"POST /v1/explain for {user_id}: known are {known}; the last decisions:"
    console.print(title, style="italic", markup=False)
    for decision in told["decisions"][:3]:
        chosen = ", ".join(decision["chosen"])
        console.print(f"  {decision['kind']} at {decision['where']}: {chosen} ({decision['why']})", markup=False)


def _show_parts(console: Console, decided: dict[str, Any]) -> None:
    offer, [headline] = decided["offer"], decided["variants"]
    console.print(f"  offer: {offer['offer']['reason'] if offer['offer'] else offer['note']}", markup=False)
    if headline["variant"]:
        shown = headline["variant"]
        console.print(f"  {SLOT}: {shown['text']} (shown with a chance of {shown['probability']:.0%})", markup=False)
    else:
        console.print(f"  {SLOT}: {headline['note']}", markup=False)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@contextmanager
def _serving(shop: Workspace) -> Iterator[httpx.Client]:
    """`attune serve` on a free port as long as the body runs, and a client with a key for it."""
    import httpx

    from data.state import State, keys
    from serving.server import started

    headers = {"Authorization": f"Bearer {keys.create(State.of(shop), role='app', name='demo')}"}
    with started(shop) as url, httpx.Client(base_url=url, headers=headers, timeout=10) as client:
        yield client


def _post(client: httpx.Client, route: str, **body: Any) -> dict[str, Any]:
    from data.errors import AttuneError

    answer = client.post(route, json=body)
    if not answer.is_success:
        raise AttuneError(f"{route} answered {answer.status_code}: {answer.text}")
    found: dict[str, Any] = answer.json()
    return found


def _somebody(shop: Workspace) -> tuple[str, list[str]]:
    """Who may be mailed at any hour, with two orders, a short history and models to decide; and items new to them.

    The most popular item is the first.
    """
    from datetime import UTC, datetime

    from serving.decisions.arms import arm_of
    from serving.decisions.rules import PERSONALISATION

    events, orders = shop.checked["events"], shop.checked["orders"]
    touched = events.filter(~events.user_id.isnull(), ~events.item_id.isnull()).select("user_id", "item_id").distinct()
    touched = touched.execute()
    bought = orders.filter(~orders.user_id.isnull()).group_by("user_id").agg(orders=orders.order_id.nunique()).execute()
    twice = set(bought.loc[bought["orders"] == 2, "user_id"])
    items = touched.groupby("user_id")["item_id"].nunique().sort_index()
    said = shop.checked["consents"]
    refused = set(said.filter(said.purpose == PERSONALISATION, ~said.granted).user_id.execute())
    mailed = set(said.filter(said.purpose == CHANNEL, said.granted).user_id.execute())
    mailed -= set(shop.checked["preferences"].user_id.execute())
    arms, salt, now = shop.settings.arms, shop.settings.shop.salt, datetime.now(UTC)
    personal = [one for one in twice & mailed - refused if arm_of(one, arms, salt=salt, now=now).name == "model"]
    user_id = str((items[items.index.isin(personal)] - 6).abs().idxmin())
    seen = set(touched.loc[touched["user_id"] == user_id, "item_id"])
    popular = touched["item_id"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    return user_id, [str(item_id) for item_id in popular.index if item_id not in seen]


def _names(shop: Workspace, item_ids: list[str]) -> dict[str, tuple[str, str]]:
    """Name and category of items."""
    items = shop.checked["items"]
    rows = items.filter(items.item_id.isin(item_ids)).select("item_id", "name", "category").execute()
    return {row.item_id: (row.name, row.category) for row in rows.itertuples(index=False)}


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat()
