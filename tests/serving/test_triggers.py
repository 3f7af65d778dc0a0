"""Triggers: what is shipped can be read, what cannot be meant is refused with its place, and what begins a journey."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from data.errors import WorkspaceError
from data.settings import Action, ActionStep, Settings
from data.tables import Tables
from features.happenings import COLUMNS
from features.snapshots import feature_names, unavailable
from serving.decisions.triggers import Names, begun, check_catalogue, columns_of, read

STEPS = (ActionStep(),)
NAMES = Names(features=("cart_items", "orders_life"), labels=("churn",), answers=("budget",))
NOW = pd.Timestamp("2026-06-30", tz="UTC")


def happened(*rows: tuple) -> pd.DataFrame:
    """Rows of `user_id, event, days ago` and further columns."""
    made = []
    for user_id, event, days_ago, *further in rows:
        one = dict.fromkeys(COLUMNS) | {"user_id": user_id, "event": event, "at": NOW - pd.Timedelta(days=days_ago)}
        made.append(one | (further[0] if further else {}))
    frame = pd.DataFrame(made)
    return frame.astype({name: "object" for name in COLUMNS if name not in ("value", "quantity")}).astype(
        {"value": float, "quantity": float}
    )


def one(**declared):
    """The trigger of one declaration."""
    [trigger] = read({"one": Action(**{"steps": STEPS, **declared})}, NAMES).on
    return trigger


def test_every_shipped_action_can_be_read_on_a_shop_that_brought_everything():
    settings = Settings()
    tables = Tables.from_frames()
    every = [*feature_names(tables, settings.features), *(f.name for f in unavailable(tables, settings.features))]
    found = read(settings.actions, Names(features=every, labels=settings.propensity))
    assert [trigger.name for trigger in found.on] == [
        "welcome", "cart_abandoned", "browse_abandoned", "key_page_seen", "form_submitted", "after_purchase",
        "replenishment", "lifecycle_change", "win_back", "price_or_stock", "churn_risk",
    ]  # fmt: skip
    assert not found.off


def test_what_a_shop_is_too_poor_for_is_off_with_the_reason():
    settings = Settings()
    lacking = {"cart_items": "events", "cart_value": "events", "order_value_mean": "orders.unit_price"}
    found = read(settings.actions, Names(features=["orders_life"], lacking=lacking, labels=settings.propensity))
    assert found.off == {"cart_abandoned": "cart_items needs events"}
    assert {trigger.value for trigger in found.on} == {None}


def test_a_setting_lays_over_the_shipped_one_and_turns_it_off(tmp_path):
    file = tmp_path / "attune.toml"
    file.write_text("[actions.win_back]\nenabled = false\n[actions.cart_abandoned]\npriority = 5\n")
    settings = Settings.load(file)
    assert settings.actions["cart_abandoned"].priority == 5
    assert len(settings.actions["cart_abandoned"].steps) == 2
    names = Names(
        features=["orders_life", "cart_items"],
        labels=settings.propensity,
        lacking={"cart_value": "x", "order_value_mean": "x"},
    )
    assert "win_back" not in {trigger.name for trigger in read(settings.actions, names).on}


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        (
            {"events": ("product_added",), "exit": "cart_item == 0"},
            r"actions\.one\.exit: 'cart_item' .*mean 'cart_items'",
        ),
        ({"condition": "churn >"}, r"actions\.one\.condition: .*cannot be read at column 8"),
        ({"events": ("order",), "value": "margin * churn"}, r"actions\.one\.value: 'margin' is no feature"),
        ({"events": ("form_submitted where income > 3",)}, r"actions\.one\.events .*'income' is no column of events"),
        ({"events": ("product_viewed where page > 3",)}, r"actions\.one\.events .*page is text, 3 is a number"),
        ({"events": ("product_viewed where value == 'x'",)}, r"actions\.one\.events .*value is a number, 'x' is text"),
        ({"events": ("no order",)}, r"actions\.one\.events 'no order': nothing happens"),
        ({"events": ("order",), "channels": ("emal",)}, r"actions\.one\.channels: 'emal' .*mean 'email'"),
        ({"events": ("order",), "steps": (ActionStep(channels=("fax",)),)}, r"one\.steps\[0\]\.channels: 'fax' is no"),
        ({"events": ("order",), "steps": (ActionStep(condition="x > 1"),)}, r"one\.steps\[0\]\.condition: 'x' is no"),
        ({"events": ("product_viewed",), "same": "colour"}, r"actions\.one\.same: 'colour' is no column"),
        ({"events": ("order",), "steps": ()}, r"actions\.one\.steps: there is none"),
        ({}, r"actions\.one: nothing begins it"),
        ({"condition": "churn > 0.5", "times": 2}, r"actions\.one: `same` and `times` are of `events`"),
        ({"condition": "churn > 0.5", "steps": (ActionStep(wait="rhythm"),)}, r"steps\[0\]\.wait: 'rhythm' is of"),
        ({"condition": "churn > 0.5", "steps": (ActionStep(wait="1 hour"),)}, r"steps\[0\]\.wait: '1 hour' would nev"),
        (
            {
                "condition": "churn > 0.5",
                "steps": (ActionStep(condition="churn > 0.8", offer="best"), ActionStep(wait="7 days")),
            },
            r"steps\[1\]\.wait: '7 days' would never be over for whom steps\[0\] is left out",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(declared, says):
    with pytest.raises(WorkspaceError, match=says):
        one(**declared)


def test_a_circle_of_goals_is_refused():
    asked = {
        "looked": Action(events=("product_viewed",), goal="product_added", steps=STEPS),
        "added": Action(events=("product_added",), goal="checkout_started", steps=STEPS),
        "paid": Action(events=("checkout_started",), goal="product_viewed", steps=STEPS),
    }
    with pytest.raises(
        WorkspaceError, match=r"actions\.looked\.goal: a circle: .*begins added.*begins paid.*begins looked"
    ):
        read(asked, NAMES)
    asked["paid"] = asked["paid"].model_copy(update={"goal": "product_viewed where category == 'tea'"})
    with pytest.raises(WorkspaceError, match="a circle"):
        read(asked, NAMES)
    asked["looked"] = asked["looked"].model_copy(update={"events": ("product_viewed where category == 'cups'",)})
    assert len(read(asked, NAMES).on) == 3


def test_a_goal_that_begins_its_own_journey_needs_a_wait():
    with pytest.raises(WorkspaceError, match="begins it again at once"):
        one(events=("order",), goal="order")
    assert one(events=("order",), goal="order_completed", steps=(ActionStep(wait="30 days"),))


def test_an_offer_or_a_slot_that_there_is_not_is_refused():
    named = one(events=("order",), goal="click", steps=(ActionStep(offer="offer-1", slots=("subject",)),))
    check_catalogue([named], offers=["offer-1"], slots=["subject"])
    with pytest.raises(
        WorkspaceError, match=r"actions\.one\.steps\[0\]\.offer: 'offer-1' is no offer; did you mean 'offer-2'"
    ):
        check_catalogue([named], offers=["offer-2"], slots=["subject"])
    with pytest.raises(WorkspaceError, match=r"steps\[0\]\.slots: 'subject' is no slot with variants. There are none"):
        check_catalogue([named], offers=["offer-1"], slots=[])


@pytest.mark.parametrize("wait", ["3 weeks", "99999999 days"])
def test_a_wait_is_refused_at_the_settings(tmp_path, wait):
    file = tmp_path / "attune.toml"
    file.write_text(f"[[actions.win_back.steps]]\nwait = '{wait}'\n")
    told = rf"actions\.win_back\.steps\.0\.wait: .*'{wait}' is no wait. Write it like .* up to 3,650"
    with pytest.raises(WorkspaceError, match=told):
        Settings.load(file)


def test_the_newest_event_begins_a_journey_for_each_category():
    looked = one(events=("product_viewed",), same="category", times=3, within_days=7)
    tea, cups = {"category": "tea", "item_id": "t"}, {"category": "cups", "item_id": "c"}
    rows = happened(
        *(("ann", "product_viewed", days, tea) for days in (1, 2, 5)),
        *(("ann", "product_viewed", days, cups) for days in (1, 2, 20)),
        *(("bob", "product_viewed", days, tea) for days in (30, 33, 35)),
    )
    found = {key: (NOW - one.at).days for key, one in begun(looked, columns_of(rows)).items()}
    assert found == {("ann", "tea"): 1, ("bob", "tea"): 30}


def test_a_look_with_too_few_before_it_takes_no_journey_back():
    looked = one(events=("product_viewed",), times=3, within_days=7, same="category")
    rows = happened(*(("ann", "product_viewed", days, {"category": "tea"}) for days in (9, 8, 3, 1)))
    [found] = begun(looked, columns_of(rows)).values()
    assert (NOW - found.at).days == 3


def test_conditions_ask_of_the_event_and_a_missing_answer_is_none():
    form = one(events=("form_submitted where budget == 'large'",))
    rows = happened(("ann", "form_submitted", 1), ("bob", "form_submitted", 1)).assign(budget=["large", None])
    assert list(begun(form, columns_of(rows))) == [("ann", "")]


def test_engagement_is_what_people_do_themselves():
    quiet = one(events=("engagement",), goal="engagement", steps=(ActionStep(wait="90 days"),))
    rows = happened(("ann", "open", 100), ("ann", "unsubscribe", 1), ("ann", "price_dropped", 1), ("bob", "order", 3))
    assert {user: (NOW - one.at).days for (user, _), one in begun(quiet, columns_of(rows)).items()} == {
        "ann": 100,
        "bob": 3,
    }


def test_the_rhythm_is_the_persons_own_median():
    again = one(events=("order",), same="item_id", times=2, within_days=365, steps=(ActionStep(wait="rhythm"),))
    tea = {"item_id": "tea"}
    rows = happened(
        *(("ann", "order", days, tea) for days in (10, 20, 40, 50)), ("ann", "order", 5, {"item_id": "pot"})
    )
    [found] = begun(again, columns_of(rows)).values()
    assert (found.about, found.items, found.rhythm_days) == ("tea", ("tea",), 10.0)


def test_the_page_about_actions_tells_of_all_that_are_shipped():
    page = (Path(__file__).parents[2] / "docs" / "actions.md").read_text(encoding="utf-8")
    for name in Settings().actions:
        assert f"| `{name}` |" in page
    [told] = re.findall(r"```toml\n(\[actions\.cart_abandoned\].*?)```", page, flags=re.DOTALL)
    declared = tomllib.loads(told)["actions"]["cart_abandoned"]
    assert Action(**declared) == Settings().actions["cart_abandoned"]
