"""Which variant somebody sees: with the chance that is logged, for whom and when it may be, its fields filled."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from data.merge_fields import filled
from data.settings import Settings
from data.state import State
from data.state.rows import RowRefusedError
from data.state.schema import tables as state_tables
from data.state.writes import append, upsert
from data.tables import Tables
from models.variants import Context, Evidence, Variant, VariantModel
from serving.champions import Champion
from serving.decisions.arms import Arm
from serving.decisions.rules import Consent, Person
from serving.profiles import Row
from serving.schemas import VariantsAsk
from serving.varying import Varying

NOW = datetime.now(UTC)
LONG_AGO, SOON = NOW - timedelta(days=90), NOW + timedelta(days=1)
SETTINGS = Settings(segments={"buyers": "orders_life > 0"})


def variants() -> pd.DataFrame:
    rows = [
        ("plain", "headline", None, "New for {user.first_name|you}", None, None),
        ("warm", "headline", None, "A quiet cup", None, None),
        ("spring", "headline", "spring", "Spring is here", None, None),
        ("over", "headline", None, "Ended", LONG_AGO, NOW - timedelta(days=1)),
        ("later", "headline", None, "To come", SOON, None),
    ]
    columns = ["variant_id", "slot", "campaign_id", "text", "starts_at", "ends_at"]
    told = pd.DataFrame(rows, columns=columns)
    for name in ("starts_at", "ends_at"):
        told[name] = pd.to_datetime(told[name], utc=True)
    return told


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State.open(f"sqlite:///{tmp_path / 'state.db'}")
    yield opened
    opened.close()


@pytest.fixture
def varying(state: State) -> Varying:
    users = pd.DataFrame({"user_id": ["ann"], "first_name": ["Ann <3"]})
    return Varying(SETTINGS, Tables.from_frames(variants=variants(), users=users), state, None)


JOINED = "\U0001f469\u200d\U0001f467 \u0dc1\u0dca\u200d\u0dbb\u0dd3"
"""An emoji and a name that need a joiner."""


def person(user_id: str = "ann", arm: str = "model") -> Person:
    return Person(user_id, arm=Arm(arm, 0.5), consents={"personalisation": Consent(True, LONG_AGO)})  # type: ignore[arg-type]


def ask(**about: object) -> VariantsAsk:
    return VariantsAsk(**{"user_id": "ann", "slot": "headline", **about})  # type: ignore[arg-type]


def test_only_what_runs_now_and_is_for_this_campaign_is_shown(varying: Varying) -> None:
    found = varying.decide(person(), ask(), now=NOW)
    assert {item.variant_id for item in found.items} == {"plain", "warm"}
    assert {one.variant_id: one.rule for one in found.suppressed} == {"spring": "campaign", "later": "starts_at"}
    of_spring = varying.decide(person(), ask(campaign_id="spring"), now=NOW)
    assert {item.variant_id for item in of_spring.items} == {"plain", "warm", "spring"}
    assert found.decision is not None
    assert json.loads(found.decision["suppressed"])[0]["rule"] == "campaign"


def test_the_logged_chance_is_the_one_that_was_drawn_with(varying: Varying) -> None:
    shown = Counter()
    for _ in range(400):
        found = varying.decide(person(arm="random"), ask(variants=["plain", "warm"]), now=NOW)
        assert found.decision is not None
        assert found.decision["probability"] == [0.5]
        assert found.decision["chosen"] == [found.items[0].variant_id]
        assert sum(item.probability for item in found.items) == pytest.approx(1)
        assert sum(item.best for item in found.items) == pytest.approx(1)
        shown[found.items[0].variant_id] += 1
    assert 150 < shown["plain"] < 250


@pytest.mark.parametrize("arm", ["usual", "holdout"])
def test_who_is_not_in_the_model_arm_gets_the_oldest(varying: Varying, arm: str) -> None:
    found = varying.decide(person(arm=arm), ask(), now=NOW)
    assert found.items[0].variant_id == "plain"
    assert found.decision is not None
    assert (found.decision["probability"], found.decision["arm"], found.model_version) == ([1.0], arm, arm)


def test_fields_are_filled_and_escaped_for_those_who_agreed(varying: Varying) -> None:
    one = {"variants": ["plain"]}
    assert varying.decide(person(), ask(**one), now=NOW).items[0].text == "New for Ann <3"
    assert varying.decide(person(), ask(**one, format="html"), now=NOW).items[0].text == "New for Ann &lt;3"
    assert varying.decide(person("bob"), ask(**one, user_id="bob"), now=NOW).items[0].text == "New for you"
    refuses = Person("ann", consents={"personalisation": Consent(False, LONG_AGO)})
    assert varying.decide(refuses, ask(**one), now=NOW).items[0].text == "New for you"


def test_a_live_row_of_the_person_goes_first(varying: Varying, state: State) -> None:
    row = {"user_id": "ann", "updated_at": NOW, "extra": {"first_name": "Anna"}}
    with state.writing() as connection:
        upsert(connection, "users", [row], at=NOW)
    assert varying.decide(person(), ask(variants=["plain"]), now=NOW).items[0].text == "New for Anna"


def test_of_the_live_and_the_checked_row_the_newest_fills(state: State) -> None:
    days = {name: NOW - timedelta(days=days) for days, name in enumerate(("today", "later", "sooner"))}
    users = pd.DataFrame({"user_id": ["ann"], "first_name": ["Anne"], "updated_at": [days["later"]]})
    varying = Varying(SETTINGS, Tables.from_frames(variants=variants(), users=users), state, None)
    for at, name, shown in (("sooner", "Ann", "Anne"), ("today", "Anna", "Anna"), ("sooner", "Ann", "Anna")):
        with state.writing() as connection:
            row = {"user_id": "ann", "updated_at": days[at], "extra": {"first_name": name}}
            upsert(connection, "users", [row], at=NOW)
        assert varying.decide(person(), ask(variants=["plain"]), now=NOW).items[0].text == f"New for {shown}"


def test_a_visitor_whose_id_is_a_users_is_not_called_by_their_name(varying: Varying) -> None:
    """A visitor's id comes from their browser."""
    found = varying.decide(person(), ask(user_id=None, anonymous_id="ann", variants=["plain"]), now=NOW)
    assert found.items[0].text == "New for you"


def test_what_is_sensitive_fills_no_text_of_a_table_either(state: State) -> None:
    rows = pd.DataFrame({"variant_id": ["odd"], "slot": ["headline"], "text": ["For {user.gender|you}"]})
    with state.writing() as connection:
        upsert(connection, "users", [{"user_id": "ann", "updated_at": NOW, "extra": {"gender": "women"}}], at=NOW)
    varying = Varying(SETTINGS, Tables.from_frames(variants=rows), state, None)
    assert varying.decide(person(), ask(), now=NOW).items[0].text == "For you"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\u202eAnn\u202c O\u2019Neil\r\nBcc: eve@example.org", "Ann O\u2019Neil Bcc: eve@example.org"),
        ("An\u00adna {user.country|x}", "Anna {user.country|x}"),
        (JOINED, JOINED),
        ("\u200d", "you"),
    ],
)  # fmt: skip
def test_a_name_is_written_as_it_is_without_what_turns_or_breaks_a_line(name: str, shown: str) -> None:
    assert filled("{user.name|you}", {"name": name}) == shown


def test_a_slot_without_variants_says_so(varying: Varying) -> None:
    found = varying.decide(person(), ask(slot="hero"), now=NOW)
    assert (found.items, found.decision) == ([], None)
    assert found.note == "no variant of the slot 'hero' may be shown: it has none now"
    gone = varying.decide(person(), ask(variants=["no such"]), now=NOW)
    assert gone.items == []
    assert "there is no such variant" in str(gone.note)


def test_a_new_variant_is_in_force_and_one_that_ends_is_not(varying: Varying, state: State) -> None:
    rows = [
        {"variant_id": "fresh", "slot": "headline", "text": "Fresh tea", "ends_at": None},
        {"variant_id": "warm", "slot": "headline", "text": "A quiet cup", "ends_at": NOW},
    ]
    with state.writing() as connection:
        upsert(connection, "variants", rows, at=NOW)
    varying.refresh()
    found = varying.decide(person(), ask(), now=NOW)
    assert {item.variant_id for item in found.items} == {"plain", "fresh"}


def test_a_segment_limits_who_sees_a_variant(state: State) -> None:
    told = variants().assign(segment=["buyers", None, None, None, None])
    found = Varying(SETTINGS, Tables.from_frames(variants=told), state, None).decide(person(), ask(), now=NOW)
    assert {one.variant_id: one.reason for one in found.suppressed}["plain"] == "is for buyers only"


def test_what_came_of_decisions_is_learnt_while_serving(varying: Varying, state: State) -> None:
    rng = np.random.default_rng(0)
    decisions, outcomes = [], []
    for number in range(1500):
        at = NOW - timedelta(days=10, seconds=number)
        decision_id = f"{int(at.timestamp() * 1e6) * 1000:016x}{number:016x}"
        chosen = ("plain", "warm")[number % 2]
        decisions.append(
            {
                "decision_id": decision_id, "user_id": f"u{number}", "at": at, "kind": "variant", "slot": "headline",
                "arm": "random", "arm_share": 0.1, "chosen": [chosen], "probability": [0.5], "model_version": "even",
                "context": "{}",
            }
        )  # fmt: skip
        if rng.random() < (0.2 if chosen == "warm" else 0.05):
            outcomes.append({"outcome_id": f"o{number}", "decision_id": decision_id, "kind": "click", "at": at})
    with state.writing() as connection:
        append(connection, "decisions", decisions)
        append(connection, "outcomes", outcomes)
    before = varying.decide(person(), ask(), now=NOW)
    varying.learn()
    after = varying.decide(person(), ask(), now=NOW)
    chance = {item.variant_id: item.probability for item in after.items}
    assert max(item.probability for item in before.items) < 0.95
    assert chance == pytest.approx({"warm": 0.99, "plain": 0.01})
    assert (before.enough, after.enough) == (False, True)


def trained() -> VariantModel:
    """People in DE like it plain, those in AT warm."""
    rng = np.random.default_rng(0)
    people = pd.DataFrame({"country": rng.choice(["DE", "AT"], 6000)})
    which = rng.integers(2, size=len(people))
    likes = (people["country"] == "AT").to_numpy() == (which == 1)
    context = Context.learn(people)
    ids = np.array(["plain", "warm"], dtype=object)[which]
    yes = (rng.random(len(people)) < np.where(likes, 0.3, 0.1)).astype(float)
    told = Evidence(ids, context.codes(people), np.ones(len(people)), yes)
    return VariantModel().fit([Variant("plain", "headline"), Variant("warm", "headline")], told, context=context)


def test_each_sees_what_suits_them_and_who_refuses_what_suits_most(state: State) -> None:
    people = pd.DataFrame({"country": ["DE", "AT"]})
    rows = {"ann": Row(people, 0), "bob": Row(people, 1)}
    profiles = SimpleNamespace(row=rows.get, frames=[people])
    champion = Champion("variants", 7, trained(), fitted_until=NOW)
    varying = Varying(SETTINGS, Tables.from_frames(variants=variants()), state, profiles, champion)  # type: ignore[arg-type]
    one, other = (varying.decide(person(who), ask(user_id=who), now=NOW) for who in ("ann", "bob"))
    assert {item.variant_id: item.probability for item in one.items} == pytest.approx({"plain": 0.99, "warm": 0.01})
    assert {item.variant_id: item.probability for item in other.items} == pytest.approx({"plain": 0.01, "warm": 0.99})
    assert one.model_version == "variants 7"
    refuses = Person("ann", arm=Arm("model", 1), consents={"personalisation": Consent(False, LONG_AGO)})
    assert max(item.probability for item in varying.decide(refuses, ask(), now=NOW).items) < 0.95
    stored = json.dumps([one.decision, other.decision], default=str)
    assert "country" not in stored
    assert varying.under(champion).champion is champion


def test_new_variants_are_shown_within_two_seconds(shared: Any) -> None:
    rows = [{"variant_id": name, "slot": "hero", "text": f"{name} for {{user.first_name|you}}"} for name in "ab"]
    wrong = {"variant_id": "c", "slot": "hero", "text": "Hello {user.shoe_size|there}"}
    answer = shared.post("/v1/tables", {"variants": [*rows, wrong]}, key=shared.admin).json()
    assert (answer["upserted"], answer["refused"][0]["field"]) == ({"variants": 2}, "text")

    def shown() -> dict[str, Any]:
        return shared.post("/v1/variants", {"user_id": "u1", "slot": "hero"}).json()

    shared.wait(lambda: shown()["variants"], 2)
    found = shown()
    assert {variant["text"] for variant in found["variants"]} == {"a for you", "b for you"}
    with shared.engine.state.reading() as connection:
        table = state_tables["decisions"]
        query = sa.select(table).where(table.c.decision_id == found["decision_id"])
        row = connection.execute(query).one()
    assert (row.chosen, row.kind, row.slot) == ([found["variants"][0]["variant_id"]], "variant", "hero")
    assert row.probability == [found["variants"][0]["probability"]]
    nothing = shared.post("/v1/variants", {"slot": "no such slot"}).json()
    assert (nothing["variants"], nothing["decision_id"]) == ([], None)


def test_a_text_that_cannot_be_filled_is_refused(varying: Varying) -> None:
    varying.refuse_text("Hello {user.first_name|there}")
    for text in ("Hello {user.first_name}", "Hello {user.shoe_size|there}", "{item.name|it}", "{user.gender|you}"):
        with pytest.raises(RowRefusedError):
            varying.refuse_text(text)


@pytest.mark.parametrize(
    "attributes", ['{"tone": "\\ud800"}', "[" * 9_000, '{"offer_id": ["ten"]}', '{"offer_id": {"a": 1}}', "[1]"]
)
def test_attributes_of_any_shape_harm_nobody(state: State, attributes: str) -> None:
    rows = pd.DataFrame({"variant_id": ["odd"], "slot": ["headline"], "text": ["Tea"], "attributes": [attributes]})
    varying = Varying(SETTINGS, Tables.from_frames(variants=rows), state, None)
    shown = varying.decide(person(), ask(), now=NOW).items[0]
    assert shown.model_dump_json()
    beside = varying.decide(person(), ask(offer_id="none"), now=NOW)
    assert bool(beside.items) is ("offer_id" not in attributes), (
        "what speaks of an offer that there is not is not shown"
    )
