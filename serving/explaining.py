"""What is known of a person, what was made of it, what it is used for and what never is: behind `/v1/explain`."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from data.contract import TABLES
from data.state.arrow import EXTRA, SEQ, batches, schema
from data.state.schema import tables as state_tables
from models.offers import NOTHING, OfferModel
from models.recommenders import Recommender
from models.timing import Timing
from serving.champions import PROPENSITY, VALUE, Champion
from serving.profiles import OF_PEOPLE, Profiles
from serving.schemas import Chosen, ExplainAnswer, KnownFeature, KnownRows, ModelUse, PastDecision

if TYPE_CHECKING:
    from serving.engine import Engine

NEWEST = 20
"""So many decisions are told, and so many choices and suppressions of each."""
MOST_FEATURES = 500
MOST_ATTRIBUTES = 100
NEEDED = ("user_id", "updated_at", "created_at", "timezone", "channels")
"""Columns of `users` that are no features, but whom to know, when to write to and where."""
ARMS = {
    "model": "chosen for this person by what is known of them",
    "random": "drawn at random, to learn what works",
    "usual": "chosen by the shop's usual rule",
    "holdout": "as everybody has it: this person is left alone, to compare with",
}
ANSWERS = "of which offers messages told them, and over which of these messages they ordered"
ERASED_NOTE = "they were erased: nothing is known of them, and nothing will be taken in"
UNKNOWN_NOTE = "nothing is known of this id: no row of any table names it, and whoever has it is answered as a stranger"


def explain(engine: Engine, user_id: str) -> ExplainAnswer:
    """Everything that the checked tables and the live state have of a user, or of a visitor by their anonymous id.

    Who was erased has nothing.

    Raises:
        StateUnavailableError: the state cannot be read.
    """
    version = engine.view.version
    erased = engine.state.tombstones.holds(user_id)
    rows = {} if erased else _rows(engine, user_id)
    visitors = _visitors(rows.get("identities"), user_id)
    attributes = _attributes(rows.get("users"), {} if erased else _extra(engine, user_id))
    known = _known(rows, user_id, [user_id, *visitors])
    return ExplainAnswer(
        request_id="",
        model_version=version,
        erased=erased,
        note=ERASED_NOTE if erased else None if known else UNKNOWN_NOTE,
        known=known,
        visitors=len(visitors),
        attributes=attributes,
        features=_features(engine.profiles, user_id),
        models=[_use(champion) for _, champion in sorted(engine.champions.current.items())],
        consents=_last(rows.get("consents"), "purpose", "granted"),
        preferences=_last(rows.get("preferences"), "name", "value"),
        decisions=_decisions(rows.get("decisions")),
        never_used=sorted(attributes.keys() - {*NEEDED, *engine.attributes}),
    )


def _rows(engine: Engine, user_id: str) -> Mapping[str, pa.Table]:
    """By table; the id may be a visitor's, whose events name no user."""
    if engine.profiles is not None:
        rows = engine.profiles.rows([user_id], OF_PEOPLE)
        both = [rows["events"], engine.profiles.visits(user_id)]
        return {**rows, "events": pa.concat_tables(both, promote_options="permissive")}
    did = state_tables["events"].c
    theirs = {name: state_tables[name].c.user_id == user_id for name in OF_PEOPLE}
    theirs["events"] |= sa.and_(did.user_id.is_(None), did.anonymous_id == user_id)
    queries = {name: sa.select(state_tables[name]).where(whose) for name, whose in theirs.items()}
    with engine.state.reading() as connection:
        return {
            name: pa.Table.from_batches(batches(connection, query, name), schema(name))
            for name, query in queries.items()
        }


# Rows are counted, sorted and limited as Arrow has them: only what is told becomes Python's.


def _visitors(identities: pa.Table | None, user_id: str) -> list[str]:
    """Who was named as this user before any other."""
    if identities is None:
        return []
    ordered = identities.sort_by([("at", "ascending"), ("user_id", "ascending")])
    first = ordered.group_by("anonymous_id", use_threads=False).aggregate([("user_id", "first")])
    return first.filter(pc.equal(first["user_id_first"], user_id))["anonymous_id"].to_pylist()  # type: ignore[no-any-return]


def _known(rows: Mapping[str, pa.Table], user_id: str, ids: Collection[str]) -> list[KnownRows]:
    """By table, how many rows are the user's, or under one of their `ids` without a user."""
    found = []
    for name, table in rows.items():
        if name == "items":
            continue
        whose = table["user_id"].cast(pa.string())
        theirs = pc.equal(whose, user_id)
        if "anonymous_id" in table.column_names:
            among = pc.is_in(table["anonymous_id"].cast(pa.string()), value_set=pa.array(ids, pa.string()))
            theirs = pc.or_kleene(theirs, pc.and_(pc.is_null(whose), among))
        happened_at = TABLES[name].happened_at
        kept = table.filter(theirs)
        times = pc.min_max(kept[happened_at]).as_py() if happened_at else {"min": None, "max": None}
        if len(kept):
            about = TABLES[name].about
            found.append(KnownRows(table=name, about=about, rows=len(kept), first=times["min"], last=times["max"]))
    return found


def _extra(engine: Engine, user_id: str) -> Mapping[str, Any]:
    """Attributes that came live and that the tables do not have yet."""
    users = state_tables["users"].c
    query = sa.select(users.extra).where(users.user_id == user_id).order_by(users.updated_at.desc()).limit(1)
    with engine.state.reading() as connection:
        return connection.scalar(query) or {}


def _attributes(users: pa.Table | None, extra: Mapping[str, Any]) -> dict[str, str]:
    """The newest row of `users`."""
    newest = next(iter(_newest(users, 1, "updated_at")), {})
    told = {**extra, **{name: value for name, value in newest.items() if value is not None}}
    told = {name: value for name, value in told.items() if name not in ("user_id", EXTRA, SEQ)}
    return {name: str(value)[:1000] for name, value in sorted(told.items())[:MOST_ATTRIBUTES]}


def _features(profiles: Profiles | None, user_id: str) -> list[KnownFeature]:
    if profiles is None:
        return []
    frame, _ = profiles.of([user_id])
    row: dict[Any, Any] = next(iter(frame.to_dict("records")), {})
    told = {name: value for name in profiles.columns if _is_told(value := row.get(name))}
    return [
        KnownFeature(
            feature=str(name), about=profiles.about[name][0], value=_plain(value), unit=profiles.about[name][1]
        )
        for name, value in list(told.items())[:MOST_FEATURES]
    ]


def _is_told(value: object) -> bool:
    """Whether a feature says something: neither missing nor none of what it counts."""
    return value is not None and value == value and value != 0 and str(value) != "<NA>"  # noqa: PLR0124 - NaN


def _plain(value: Any) -> float | str | bool:
    if isinstance(value, (bool, str)):
        return value
    number = float(value)
    return round(number, 4) if math.isfinite(number) else str(number)


def _use(champion: Champion) -> ModelUse:
    """What a model looks at: its features or, of those without, what they are made of."""
    model: Any = champion.model
    if isinstance(model, Recommender):
        return ModelUse(
            model=str(champion),
            about="what this person may like",
            uses=["items they viewed, put into the cart, reviewed and bought, and when"],
        )
    if isinstance(model, Timing):
        return ModelUse(
            model=str(champion),
            about="when and where they like to be written to",
            uses=["when they opened and clicked messages and were in the shop", "their time zone", "their preferences"],
        )
    about = "what they are likely to spend" if champion.name == VALUE else champion.name
    if champion.name.startswith(PROPENSITY):
        about = f"how likely it is: {champion.name.removeprefix(PROPENSITY)}"
    uses = list(map(str, getattr(model, "features", ())))
    if isinstance(model, OfferModel) and model.reads_answers:
        uses.append(ANSWERS)
    return ModelUse(model=str(champion), about=about, uses=uses)


def _last(rows: pa.Table | None, name: str, value: str) -> dict[str, Chosen]:
    """The last word on each name; of a yes and a no of the same moment the no."""
    if rows is None:
        return {}
    ordered = rows.sort_by([("at", "ascending"), (value, "descending")])
    last = ordered.group_by(name, use_threads=False).aggregate([(value, "last"), ("at", "last")])
    words = {True: "yes", False: "no"}
    return {
        row[name]: Chosen(value=words.get(row[f"{value}_last"], str(row[f"{value}_last"])), at=row["at_last"])
        for row in last.to_pylist()
    }


def _decisions(rows: pa.Table | None) -> list[PastDecision]:
    return [
        PastDecision(
            decision_id=row["decision_id"],
            at=row["at"],
            kind=row["kind"],
            where=row["slot"] or row["placement"],
            chosen=(row["chosen"] or [])[:NEWEST],
            why=_why(row),
            suppressed=_held_back(row["suppressed"]),
        )
        for row in _newest(rows, NEWEST, "at", "decision_id")
    ]


def _why(row: Mapping[str, Any]) -> str:
    if row["kind"] == "action" and row["chosen"] == [NOTHING] and row["arm"] != "holdout":
        return "nothing was sent: the rules in `suppressed` spoke against it"
    return f"{ARMS.get(row['arm'], row['arm'])}; {row['model_version']}; {_chance(row['probability'])}"


def _chance(probability: list[float] | None) -> str:
    return f"the first with a chance of {probability[0]:.0%}" if probability else "nothing was chosen"


def _held_back(text: str | None) -> list[dict[str, Any]]:
    """What rules kept back, as the decision's row tells it."""
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    return [entry for entry in found if isinstance(entry, dict)][:NEWEST] if isinstance(found, list) else []


def _newest(rows: pa.Table | None, k: int, *by: str) -> list[dict[str, Any]]:
    """The `k` rows with the largest values of these columns, the largest first; a missing value is less than any."""
    if rows is None:
        return []
    places = pc.sort_indices(rows, sort_keys=[(name, "descending") for name in by])[:k]
    return rows.take(places).to_pylist()  # type: ignore[no-any-return]
