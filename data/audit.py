"""The audit: what the tables hold, how bad, old and full they are, and what each gap switches off."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import ibis
from ibis.expr import types as ir

from data.contract import EVENT_NAMES, TABLES, TableSpec
from data.files import replacing
from data.settings import Data
from data.state.arrow import SEQ


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with some rows of a table.

    Attributes:
        table: The table.
        column: The column to blame.
        reason: What is wrong.
        refused: Whether the rows went to quarantine; otherwise they were kept.
        rows: How many rows.
        first_value: The value of the first such row as it was brought; of kept rows the smallest.
        first_row: Where the first such row stood in the file, from 1; None for kept rows.
    """

    table: str
    column: str
    reason: str
    refused: bool
    rows: int
    first_value: str | None
    first_row: int | None

    def __str__(self) -> str:
        where = f" at row {self.first_row:,}" if self.first_row else ""
        first = "" if self.first_value is None else repr(self.first_value)
        example = f" (first: {first}{where})" if first else f" (first{where})" if where else ""
        fate = f"they are in quarantine/{self.table}.parquet" if self.refused else "they were kept"
        rows = f"{self.rows:,} row" + "s" * (self.rows != 1)
        return f"{self.table}.{self.column}: {self.reason} in {rows}{example}; {fate}"


@dataclass(frozen=True, slots=True)
class ColumnAudit:
    """One column of the good rows.

    Attributes:
        name: The column.
        known: Whether the contract has it; otherwise it is an attribute.
        present: Share of rows that have a value.
        newest: Time of the newest row that has a value; None without a value or in a table without a time.
        age_days: Days from `newest` to the audit.
    """

    name: str
    known: bool
    present: float
    newest: datetime | None
    age_days: float | None


@dataclass(frozen=True, slots=True)
class TableAudit:
    """One table that was brought.

    Attributes:
        name: The table.
        good: Rows that passed every check.
        bad: Rows in quarantine.
        newest: Time of the newest good row.
        age_days: Days from `newest` to the audit.
        columns: The columns that were brought, those of the contract first.
        findings: What was wrong, refused rows first.
    """

    name: str
    good: int
    bad: int
    newest: datetime | None
    age_days: float | None
    columns: tuple[ColumnAudit, ...]
    findings: tuple[Finding, ...]

    @property
    def bad_share(self) -> float:
        """Share of the rows that are in quarantine."""
        return self.bad / (self.good + self.bad) if self.bad else 0.0

    @property
    def attributes(self) -> tuple[str, ...]:
        """Columns outside the contract, kept as they are."""
        return tuple(column.name for column in self.columns if not column.known and column.name != SEQ)

    def present(self, column: str) -> float:
        """Share of the good rows that have a value in `column`; 0 if it was not brought."""
        return next((c.present for c in self.columns if c.name == column), 0.0)


@dataclass(frozen=True, slots=True)
class EventName:
    """An event name that the contract does not know, and how many events have it."""

    name: str
    rows: int


@dataclass(frozen=True, slots=True)
class Lookalikes:
    """Users who are probably one person.

    Attributes:
        evidence: What they share.
        pairs: How many pairs of users share it.
        examples: Ids of a few pairs; what they share is personal and is not repeated here.
    """

    evidence: str
    pairs: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Outsized:
    """What holds so much of a table that every mean and ranking follows it: a test, a slip of the pen, a machine.

    Attributes:
        what: Order lines, or users and visitors.
        of: What they hold much of.
        number: How many of them do.
        share: How much of it they hold together.
        largest: Id of the largest: the order's, or the person's.
    """

    what: str
    of: str
    number: int
    share: float
    largest: str

    def __str__(self) -> str:
        do = "holds" if self.number == 1 else "hold"
        what = self.what.removesuffix("s") if self.number == 1 else self.what
        return (
            f"{self.number:,} {what} {do} {self.share:.0%} of all {self.of} (the largest: {self.largest}): means and "
            "rankings may follow. If that is a test, a mistake or a machine, take it out and import again."
        )


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that was not brought, and what goes without it.

    Attributes:
        table: The table.
        column: The column; empty = the whole table.
        off: What is switched off or less sharp.
    """

    table: str
    column: str
    off: str

    def __str__(self) -> str:
        return f"no {self.table}{'.' if self.column else ''}{self.column}: {self.off}"


GAPS: tuple[Gap, ...] = (
    Gap("events", "", "behaviour features and trigger events are off; recommenders learn from orders alone"),
    Gap("events", "session_id", "session features are off"),
    Gap("events", "item_id", "recommenders learn from orders alone; open cart and repeated interest are off"),
    Gap("events", "dwell_seconds", "dwell features are off"),
    Gap("events", "received_at", "late rows cannot be told: each counts as known from the moment it happened"),
    Gap("orders", "", "an order_completed event counts as a purchase without money: spend features, returns, discount "
        "share, the value model and revenue in reports are off"),
    Gap("orders", "user_id", "every order is a guest's: transaction features, churn and purchase models are off"),
    Gap("orders", "unit_price", "spend features, RFM's monetary part, the value model and revenue in reports are off"),
    Gap("orders", "discount", "discount share is off; spend is counted before discounts"),
    Gap("orders", "offer_id", "redeemed offers are not known: the offers model learns from outcomes alone"),
    Gap("orders", "received_at", "late rows cannot be told: each counts as known from the moment it happened"),
    Gap("items", "", "category and brand features, filters and reasons that name an item are off"),
    Gap("items", "category", "category features, category purchase labels and popularity within a category are off"),
    Gap("items", "brand", "brand features are off"),
    Gap("items", "price", "the value of an open cart is off"),
    Gap("items", "cost", "profit is off: offers are judged by revenue"),
    Gap("items", "available", "items that are sold out may be recommended"),
    Gap("items", "updated_at", "today's catalogue is taken to have been always so"),
    Gap("users", "", "profile features are off"),
    Gap("users", "created_at", "tenure counts from the first event or order"),
    Gap("users", "updated_at", "today's attributes are taken to have been always so: name no changing one as feature"),
    Gap("users", "timezone", "hours are UTC, not the person's own"),
    Gap("identities", "", "what visitors did before they were known stays theirs alone"),
    Gap("messages", "", "engagement features, click labels, the send-time model and fatigue caps are off"),
    Gap("messages", "opened_at", "open features and the send-time model are off"),
    Gap("messages", "machine_opened", "opens by mail programs count as opens"),
    Gap("messages", "clicked_at", "click features and click labels are off"),
    Gap("messages", "unsubscribed_at", "unsubscribe features are off"),
    Gap("offers", "", "the offers model is off"),
    Gap("variants", "", "the variants model is off"),
    Gap("consents", "", "no consent is known: nothing may be sent that needs one"),
    Gap("preferences", "", "people's own choices cannot come first"),
    Gap("decisions", "", "reports on decisions and learning from them are off"),
    Gap("outcomes", "", "reports on decisions and learning from them are off"),
)  # fmt: skip
"""What each table and column is for, told by what goes without it."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What `attune check` found.

    Attributes:
        at: The moment that ages are counted to.
        fingerprint: Of the tables that were checked.
        tables: Each table that was brought, in the contract's order.
        unread: Files in `tables/` that are no table of the contract.
        guest_share: Share of order lines without a user; None without orders.
        visitor_share: Share of events by visitors who never became known; None without events.
        event_names: Event names outside the contract, the commonest first.
        lookalikes: Users who are probably one person.
        outsized: What holds so much of the money or the events that means follow it.
        gaps: What was not brought, and what goes without it.
        failures: Why the data is not fit to train on, each with the remedy; empty = it is fit.
    """

    at: datetime
    fingerprint: str
    tables: tuple[TableAudit, ...]
    unread: tuple[str, ...]
    guest_share: float | None
    visitor_share: float | None
    event_names: tuple[EventName, ...]
    lookalikes: tuple[Lookalikes, ...]
    outsized: tuple[Outsized, ...]
    gaps: tuple[Gap, ...]
    failures: tuple[str, ...]

    @property
    def fit(self) -> bool:
        """Whether the data is fit to train on."""
        return not self.failures

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong in any table."""
        return tuple(finding for table in self.tables for finding in table.findings)


def table_audit(
    good: ir.Table, spec: TableSpec, *, now: datetime, bad: int, findings: tuple[Finding, ...]
) -> TableAudit:
    """How full and how old a table's good rows are, column by column."""
    wanted: dict[str, ir.Value] = {"rows": good.count()}
    for i, name in enumerate(good.columns):
        filled = good[name].notnull()
        wanted[f"present{i}"] = filled.sum()
        if spec.happened_at in good.columns:
            wanted[f"newest{i}"] = good[spec.happened_at].max(where=filled)
    found = good.aggregate(**wanted).to_pyarrow().to_pylist()[0]
    columns = []
    for i, name in enumerate(good.columns):
        newest = found.get(f"newest{i}")
        columns.append(
            ColumnAudit(
                name=name,
                known=name in spec.by_name,
                present=(found[f"present{i}"] or 0) / max(1, found["rows"]),
                newest=newest,
                age_days=_days(newest, now),
            )
        )
    newest = next((column.newest for column in columns if column.name == spec.happened_at), None)
    return TableAudit(
        name=spec.name, good=found["rows"], bad=bad, newest=newest, age_days=_days(newest, now),
        columns=tuple(columns), findings=findings,
    )  # fmt: skip


def _days(newest: datetime | None, now: datetime) -> float | None:
    return None if newest is None else (now - newest).total_seconds() / 86_400


def audit(
    tables: Sequence[TableAudit],
    good: Mapping[str, ir.Table],
    *,
    settings: Data,
    now: datetime,
    fingerprint: str,
    unread: tuple[str, ...],
) -> Audit:
    """The whole audit, from that of each table and the good rows, which have every column of the contract."""
    by_name = {table.name: table for table in tables}
    orders = by_name.get("orders")
    return Audit(
        at=now,
        fingerprint=fingerprint,
        tables=tuple(tables),
        unread=unread,
        guest_share=1 - orders.present("user_id") if orders and orders.good else None,
        visitor_share=_visitor_share(good),
        event_names=_event_names(good),
        lookalikes=lookalikes(good),
        outsized=outsized(good),
        gaps=tuple(gap for gap in GAPS if _is_open(gap, by_name)),
        failures=tuple(_failures(by_name, settings)),
    )


def _visitor_share(good: Mapping[str, ir.Table]) -> float | None:
    events, identities = good.get("events"), good.get("identities")
    if events is None:
        return None
    unknown = events.user_id.isnull()
    if identities is not None:
        unknown &= ~events.anonymous_id.isin(identities.anonymous_id)
    told = events.aggregate(rows=events.count(), unknown=unknown.cast("int64").sum()).to_pyarrow().to_pylist()[0]
    return told["unknown"] / told["rows"] if told["rows"] else None


def _event_names(good: Mapping[str, ir.Table]) -> tuple[EventName, ...]:
    if "events" not in good:
        return ()
    other = good["events"].filter(lambda t: ~t.event.isin(sorted(EVENT_NAMES)))
    counted = other.group_by("event").agg(rows=other.count()).order_by(ibis.desc("rows"), "event").limit(20)
    return tuple(EventName(row["event"], row["rows"]) for row in counted.to_pyarrow().to_pylist())


def _is_open(gap: Gap, by_name: Mapping[str, TableAudit]) -> bool:
    table = by_name.get(gap.table)
    if table is None or table.good == 0:
        return not gap.column
    return bool(gap.column) and table.present(gap.column) == 0


def _failures(by_name: Mapping[str, TableAudit], settings: Data) -> Iterator[str]:
    if not any(by_name[name].good for name in ("events", "orders") if name in by_name):
        yield "neither events nor orders has a good row: there is nothing to learn from. Import one of them."
    for table in by_name.values():
        brought = {column.name for column in table.columns}
        lacking = [name for name in TABLES[table.name].required if name not in brought]
        if table.bad and lacking:
            yield (
                f"{table.name} has no column {', '.join(lacking)}, and no row can do without. "
                "Name the shop's column for it in `attune import tables --mapping FILE.toml`."
            )
        elif table.bad_share > settings.max_bad_share:
            worst = max((finding for finding in table.findings if finding.refused), key=lambda finding: finding.rows)
            written = " (`attune import tables` reads other ways to write numbers and times: docs/importing.md)"
            other_way = written if worst.reason in ("not a number", "not a time") else ""
            yield (
                f"{table.name}: {table.bad_share:.1%} of the rows are bad, more than data.max_bad_share = "
                f"{settings.max_bad_share:.1%}; mostly {worst}. "
                f"Mend them where they come from{other_way}, or raise the setting."
            )
    ages = [by_name[name].age_days for name in ("events", "orders") if name in by_name]
    youngest = min((age for age in ages if age is not None), default=None)
    if settings.max_age_days is not None and youngest is not None and youngest > settings.max_age_days:
        yield (
            f"the newest event or order is {youngest:.1f} days old, more than data.max_age_days = "
            f"{settings.max_age_days:g}. Import newer tables (`attune sync` for live data), or raise the setting."
        )


_MOST_ALIKE = 10
"""A value that more users share is a placeholder ("n/a", the shop's own address), not a person."""


def lookalikes(good: Mapping[str, ir.Table]) -> tuple[Lookalikes, ...]:
    """Users who are probably one person.

    They have the same e-mail address, phone or full name, ids alike but for capitals, or one visitor is two users.
    Addresses are compared in lower case and without a `+tag`, phones by their last nine digits, names by their letters.
    """
    evidence: dict[str, ir.Table] = {}
    users = good.get("users")
    if users is not None:
        for name, (columns, normalise) in _PERSONAL.items():
            given = [column for column in users.columns if column.lower() in columns]
            if given:
                value = normalise(users[given[0]].cast("string").lower().strip())
                evidence[name] = users.select(user_id=users.user_id, value=value)
    named = [good[name] for name in ("users", "orders") if name in good]
    if named:
        ids = ibis.union(*(table.select("user_id") for table in named)) if len(named) > 1 else named[0]
        evidence["id but for capitals and blanks"] = ids.select("user_id", value=ids.user_id.lower().strip())
    if "identities" in good:
        evidence["anonymous_id"] = good["identities"].select("user_id", value="anonymous_id")
    return tuple(found for name, table in evidence.items() if (found := _pairs(name, table)).pairs)


def _email(text: ir.StringValue) -> ir.StringValue:
    return text.contains("@").ifelse(text.re_replace(r"\+[^@]*@", "@"), ibis.null("string"))


def _phone(text: ir.StringValue) -> ir.StringValue:
    digits = text.re_replace(r"\D", "")
    return (digits.length() >= 7).ifelse(digits.right(9), ibis.null("string"))


def _full_name(text: ir.StringValue) -> ir.StringValue:
    words = text.re_replace(r"[\s.,_-]+", " ")
    return words.contains(" ").ifelse(words, ibis.null("string"))


_PERSONAL: dict[str, tuple[frozenset[str], Callable[[ir.StringValue], ir.StringValue]]] = {
    "e-mail address": (frozenset({"email", "e_mail", "email_address", "mail"}), _email),
    "phone": (frozenset({"phone", "phone_number", "mobile", "mobile_phone", "telephone"}), _phone),
    "full name": (frozenset({"name", "full_name"}), _full_name),
}
"""Attributes that tell people apart: how they may be called, and how two spellings of one value are made equal."""


def _pairs(evidence: str, table: ir.Table) -> Lookalikes:
    known = table.filter(table.value.notnull()).distinct()
    shared = known.group_by("value").agg(users=known.count(), one=known.user_id.min(), other=known.user_id.max())
    shared = shared.filter(shared.users.between(2, _MOST_ALIKE))
    pairs = shared.aggregate(pairs=(shared.users * (shared.users - 1)).sum().fill_null(0)).to_pyarrow().to_pylist()
    examples = shared.select("one", "other").distinct().order_by("one", "other").limit(3).to_pyarrow().to_pylist()
    return Lookalikes(evidence, int(pairs[0]["pairs"]) // 2, tuple((row["one"], row["other"]) for row in examples))


_MUCH, _MANY_EVENTS, _FEW = 0.1, 0.01, 100
"""Who holds a tenth of the money, or a hundredth of the events, stands out among a hundred or more."""


def outsized(good: Mapping[str, ir.Table]) -> tuple[Outsized, ...]:
    """Order lines and people with a tenth of the money each, and people with a hundredth of the events each."""
    found = []
    orders, events = good.get("orders"), good.get("events")
    if orders is not None:
        lines = orders.mutate(amount=orders.quantity * orders.unit_price).filter(lambda t: t.amount > 0)
        slips = _largest(lines.select("amount", id="order_id"), _MUCH)
        found.append(Outsized("order lines", "money", *slips[:3]))
        lines = lines.filter(lines.amount < slips[3]) if slips[0] else lines  # else their buyers stand out for them
        people = lines.filter(lines.user_id.notnull()).group_by(id="user_id").agg(amount=lines.amount.sum())
        found.append(Outsized("users", "money", *_largest(people, _MUCH)[:3]))
    if events is not None:
        people = (
            events.mutate(id=ibis.coalesce(events.user_id, events.anonymous_id))
            .group_by("id")
            .agg(amount=ibis._.count().cast("float64"))
        )
        found.append(Outsized("users and visitors", "events", *_largest(people, _MANY_EVENTS)[:3]))
    return tuple(one for one in found if one.number)


def _largest(held: ir.Table, share: float) -> tuple[int, float, str, float]:
    """Of rows of `id` and `amount`: how many hold `share` of all, what together, the largest, the least amount."""
    told = held.aggregate(rows=held.count(), total=held.amount.sum()).to_pyarrow().to_pylist()[0]
    if told["rows"] < _FEW:
        return 0, 0.0, "", 0.0
    much = held.filter(held.amount >= share * told["total"])
    top = much.aggregate(
        number=much.count(), part=much.amount.sum(), largest=much.id.argmax(much.amount), least=much.amount.min()
    ).to_pyarrow().to_pylist()[0]  # fmt: skip
    return top["number"], (top["part"] or 0) / told["total"], top["largest"] or "", top["least"] or 0.0


def write(audit: Audit, folder: Path) -> None:
    """Write `audit.json` for programs and `audit.md` for people."""
    with replacing(folder / "audit.json") as file:
        text = json.dumps({"fit": audit.fit, **asdict(audit)}, default=datetime.isoformat, indent=1)
        file.write_text(text, encoding="utf-8")
    with replacing(folder / "audit.md") as file:
        file.write_text(markdown(audit), encoding="utf-8")


def markdown(audit: Audit) -> str:
    """The audit as a page to read: the verdict first, then tables, findings, gaps and columns."""
    verdict = "The data is fit to train on" if audit.fit else "The data is not fit to train on"
    parts = [f"# {verdict}", f"Audited {audit.at:%Y-%m-%d %H:%M} UTC.", _list(audit.failures)]
    rows = [
        (t.name, f"{t.good:,}", f"{t.bad:,}", f"{t.bad_share:.2%}", f"{t.newest:%Y-%m-%d}" if t.newest else "", _age(t))
        for t in audit.tables
    ]
    parts.append(table_of(("table", "good rows", "bad rows", "bad share", "newest", "age in days"), rows))
    parts += [_section("Notes", notes(audit)), _section("Findings", map(str, audit.findings))]
    parts.append(_section("What is missing, and what goes without it", map(str, audit.gaps)))
    for table in audit.tables:
        about = [(c.name, "" if c.known else "attribute", f"{c.present:.1%}", _age(c)) for c in table.columns]
        parts += [f"## {table.name}", table_of(("column", "", "present", "age in days"), about)]
    return "\n\n".join(part for part in parts if part) + "\n"


def notes(audit: Audit) -> list[str]:
    """What else a reader should know, a sentence each."""
    said = []
    if audit.guest_share:
        said.append(f"{audit.guest_share:.1%} of order lines are guests': they feed popularity and co-purchase only.")
    if audit.visitor_share:
        said.append(
            f"{audit.visitor_share:.1%} of events are of visitors who never became known: no model learns from them. "
            "Where hardly anybody signs in, name the visitor's id as user_id."
        )
    said += [
        f"{alike.pairs:,} pair{'s' * (alike.pairs != 1)} of users share one {alike.evidence} "
        f"and are probably one person (such as {', '.join(' and '.join(pair) for pair in alike.examples)})."
        for alike in audit.lookalikes
    ]
    said += map(str, audit.outsized)
    if audit.event_names:
        names = ", ".join(f"{name.name} ({name.rows:,})" for name in audit.event_names)
        said.append(f"Event names outside the contract, kept: {names}.")
    for table in audit.tables:
        if table.attributes:
            said.append(
                f"{table.name} has columns outside the contract, kept as attributes: {', '.join(table.attributes)}."
            )
    if audit.unread:
        said.append(f"Not read, for no table of the contract has that name: {', '.join(audit.unread)}.")
    return said


def _age(audited: TableAudit | ColumnAudit) -> str:
    return "" if audited.age_days is None else f"{audited.age_days:,.1f}"


def _section(title: str, lines: Iterable[str]) -> str:
    listed = _list(lines)
    return f"## {title}\n\n{listed}" if listed else ""


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def table_of(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
