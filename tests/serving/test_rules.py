"""What is held back, by which rule: one table of cases, and what holds for anybody."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from data.settings import Arms, Features, Rules, Settings
from serving.decisions.arms import Arm
from serving.decisions.rules import RULES, Consent, Contact, Person, allowed_hours, cap_of, consents, held_back

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
YES, NO = Consent(granted=True, at=NOW - 60 * DAY), Consent(granted=False, at=NOW - 60 * DAY)
OLD = Consent(granted=True, at=NOW - 999 * DAY)
EMAIL, SMS, WEB = Contact("email"), Contact("sms"), Contact("web")
SHOP = Settings(
    rules=Rules(
        caps={"all": "3 in 7", "email": "2 in 7", "sms": "1 in 30"}, quiet_hours={"sms": "21-8"}, re_entry_days=30
    ),
    features=Features(sensitive=("health", "age"), sensitive_reasons={"Pets > Health": "we are a vet"}),
)


def about(**facts) -> Person:
    """Somebody who said yes to e-mail and SMS."""
    return Person("ann", **{"consents": {"email": YES, "sms": YES}, **facts})


def topic(*categories, channel="email") -> Contact:
    return Contact(channel, categories=categories)


def sent(*days_ago, channel="email") -> dict:
    return {channel: tuple(NOW - days * DAY for days in days_ago)}


TABLE = [
    # who, what, when, which rules speak against it
    (about(), EMAIL, NOW, []),
    (about(), WEB, NOW, []),
    # consent: a yes is needed where we go to people; on site and for what is assumed, no no
    (Person("ann"), EMAIL, NOW, ["consent"]),
    (Person("ann"), Contact("a new channel"), NOW, ["consent"]),
    (Person("ann"), WEB, NOW, []),
    (Person(None), WEB, NOW, []),
    (about(consents={"email": NO}), EMAIL, NOW, ["consent"]),
    (about(consents={"email": YES, "marketing": NO}), EMAIL, NOW, ["consent"]),
    (about(consents={"email": YES, "marketing": NO}), WEB, NOW, ["consent"]),
    (about(consents={"email": YES, "marketing": NO}), Contact("email", purpose="service"), NOW, ["consent"]),
    (about(consents={"email": YES, "marketing": NO, "service": YES}), Contact("email", purpose="service"), NOW, []),
    (about(consents={"web": NO}), WEB, NOW, ["consent"]),
    # while the state cannot be read nothing is sent: they may have said no since
    (about(live=False), EMAIL, NOW, ["live"]),
    (about(live=False), WEB, NOW, []),
    # unsubscribed and bounced: until a later yes, a bounce for its days only
    (about(unsubscribed={"email": NOW - DAY}), EMAIL, NOW, ["unsubscribed"]),
    (about(unsubscribed={"email": NOW - DAY}), SMS, NOW, []),
    (about(unsubscribed={"email": NOW - 61 * DAY}), EMAIL, NOW, []),
    (about(bounced={"email": NOW - DAY}), EMAIL, NOW, ["bounced"]),
    (about(bounced={"email": NOW - 61 * DAY}), EMAIL, NOW, []),
    (about(consents={"email": OLD}, bounced={"email": NOW - 181 * DAY}), EMAIL, NOW, []),
    # reachable and chosen channels: nothing said means any; on site they came themselves
    (about(channels=frozenset({"email"})), EMAIL, NOW, []),
    (about(channels=frozenset({"email"})), SMS, NOW, ["reachable"]),
    (about(channels=frozenset()), WEB, NOW, []),
    (about(preferences={"channels": "Push, Email"}), EMAIL, NOW, []),
    (about(preferences={"channels": "push"}), EMAIL, NOW, ["channels"]),
    (about(preferences={"channels": "push"}), WEB, NOW, []),
    (about(preferences={"channels": "none"}), EMAIL, NOW, ["channels"]),
    (about(preferences={"channels": "none"}), WEB, NOW, []),
    # topics: any part of a category's path is one; what has no category is about nothing in particular
    (about(preferences={"topics": "tea, garden"}), topic("Home > Tea"), NOW, []),
    (about(preferences={"topics": "tea"}), topic("Garden"), NOW, ["topics"]),
    (about(preferences={"topics": "tea"}), topic("Garden", "Tea"), NOW, []),
    (about(preferences={"topics": "tea"}), EMAIL, NOW, []),
    (about(preferences={"topics": "bags, cases, tea"}), topic("Home > Bags, Cases"), NOW, []),
    (about(preferences={"topics": "bags, tea"}), topic("Bags, Cases"), NOW, ["topics"]),
    (about(preferences={"topics": "none"}), topic("Tea"), NOW, ["topics"]),
    (about(preferences={"topics": "none"}), EMAIL, NOW, []),
    (about(preferences=dict.fromkeys(["topics", "channels", "hours", "frequency"], "any")), topic("Tea"), NOW, []),
    # hours: by the person's own clock; those they chose go before the quiet ones
    (about(), SMS, NOW + 10 * HOUR, ["hours"]),
    (about(timezone="America/New_York"), SMS, NOW + 10 * HOUR, []),
    (about(), EMAIL, NOW + 10 * HOUR, []),
    (about(preferences={"hours": "22-23"}), SMS, NOW + 10 * HOUR, []),
    (about(preferences={"hours": "22-23"}), SMS, NOW, ["hours"]),
    (about(preferences={"hours": "22-23"}), WEB, NOW, []),
    (about(preferences={"hours": "evenings"}), SMS, NOW, []),
    # how often: their own choice, the channel's cap, the cap over all; what is planned counts too
    (about(preferences={"frequency": "weekly"}, sent=sent(6, channel="push")), EMAIL, NOW, ["frequency"]),
    (about(preferences={"frequency": "weekly"}, sent=sent(7)), EMAIL, NOW, []),
    (about(preferences={"frequency": "never"}), EMAIL, NOW, ["frequency"]),
    (about(preferences={"frequency": "2 in 7"}, sent=sent(1)), EMAIL, NOW, []),
    (about(preferences={"frequency": "often"}, sent=sent(1)), EMAIL, NOW, []),
    (about(sent=sent(1)), EMAIL, NOW, []),
    (about(sent=sent(1, 6.9)), EMAIL, NOW, ["caps"]),
    (about(sent=sent(-0.1, 6.9)), EMAIL, NOW, ["caps"]),
    (about(sent=sent(1, 7)), EMAIL, NOW, []),
    (about(sent=sent(1, 2, 3, channel="push")), EMAIL, NOW, ["caps"]),
    (about(sent=sent(1, 2, 3, channel="web")), EMAIL, NOW, []),
    (about(sent=sent(1, 2, 3)), WEB, NOW, []),
    # who ordered is left alone, but for what is about the order
    (about(last_order_at=NOW - 6 * DAY), EMAIL, NOW, ["recent_purchase"]),
    (about(last_order_at=NOW - 7 * DAY), EMAIL, NOW, []),
    (about(last_order_at=NOW - DAY), Contact("email", about_order=True), NOW, []),
    (about(last_order_at=NOW - DAY), WEB, NOW, []),
    # a journey does not begin twice
    (about(entered={"welcome": NOW - 29 * DAY}), Contact("email", trigger="welcome"), NOW, ["re_entry"]),
    (about(entered={"welcome": NOW - 30 * DAY}), Contact("email", trigger="welcome"), NOW, []),
    (about(entered={"welcome": NOW - DAY}), Contact("email", trigger="win_back"), NOW, []),
    (about(entered={"welcome": NOW - DAY}), Contact("email", trigger="welcome", re_entry_days=1), NOW, []),
    (about(entered={"welcome": NOW - DAY}), EMAIL, NOW, []),
    # what is sensitive is neither used nor told, unless the settings say why
    (about(), topic("Home > Health"), NOW, ["sensitive"]),
    (about(), topic("Health & Beauty"), NOW, []),
    (about(), topic("Pets > Health", channel="web"), NOW, []),
    (about(), Contact("web", attributes=("customerAge",)), NOW, ["sensitive"]),
    (about(), Contact("web", attributes=("language",)), NOW, []),
    # the holdout, and several rules at once in their order
    (about(arm=Arm("holdout", 0.1)), WEB, NOW, ["holdout"]),
    (about(arm=Arm("usual", 0.1)), WEB, NOW, []),
    (
        about(arm=Arm("holdout", 0.1), consents={}, last_order_at=NOW - DAY, preferences={"topics": "tea"}),
        topic("Garden"),
        NOW,
        ["holdout", "consent", "topics", "recent_purchase"],
    ),
]  # fmt: skip


def test_each_rule_speaks_against_what_the_table_says_and_nothing_else():
    wrong = {
        number: [found.rule for found in held_back(person, contact, SHOP, now=at)]
        for number, (person, contact, at, expected) in enumerate(TABLE)
        if [found.rule for found in held_back(person, contact, SHOP, now=at)] != expected
    }
    assert wrong == {}
    assert {rule for *_, expected in TABLE for rule in expected} == set(RULES), "a rule without a case"


def test_a_reason_is_plain_and_names_what_it_is_about():
    told = {
        found.rule: found.reason
        for person, contact, at, _ in TABLE
        for found in held_back(person, contact, SHOP, now=at)
    }
    assert told["caps"] == "has had 3 in 7 days on all channels"
    assert told["hours"] == "it is 12:00 with them, and they chose 22-23"
    assert all(reason and reason == reason.strip(" .") for reason in told.values())


moments = st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001
channels = st.sampled_from(["email", "sms", "push", "web", "in_app", "pigeon"])
by_channel = st.dictionaries(channels, moments, max_size=3)
people = st.builds(
    Person,
    user_id=st.just("ann"),
    arm=st.sampled_from([Arm("model", 0.9), Arm("holdout", 0.1)]),
    consents=st.dictionaries(
        st.sampled_from(["marketing", "email", "sms", "web", "personalisation"]),
        st.builds(Consent, st.booleans(), moments),
        max_size=4,
    ),
    preferences=st.dictionaries(
        st.sampled_from(["channels", "topics", "frequency", "hours"]),
        st.sampled_from(["email", "tea", "weekly", "never", "2 in 7", "20-23", "", ",", "24-24", "no such thing"]),
        max_size=4,
    ),
    channels=st.none() | st.frozensets(channels),
    timezone=st.sampled_from(["UTC", "Asia/Kolkata", "America/New_York"]),
    sent=st.dictionaries(channels, st.lists(moments, max_size=4).map(tuple), max_size=3),
    last_order_at=st.none() | moments,
    unsubscribed=by_channel,
    bounced=by_channel,
)
contacts = st.builds(
    Contact,
    channel=channels,
    categories=st.sampled_from([(), ("Tea",), ("Health",)]),
    trigger=st.none() | st.just("welcome"),
)


@bounded(max_examples=50, deadline=None)
@given(person=people, contact=contacts, now=moments)
def test_a_no_is_a_no_whatever_else_holds(person, contact, now):
    refused = not consents(person, contact.channel, SHOP.rules) or not consents(person, contact.purpose, SHOP.rules)
    found = [suppressed.rule for suppressed in held_back(person, contact, SHOP, now=now)]
    assert ("consent" in found) == refused
    assert ("holdout" in found) == (person.arm.name == "holdout")
    assert len(set(found)) == len(found)


@bounded(max_examples=50, deadline=None)
@given(person=people, contact=contacts, now=moments, more=moments)
def test_one_more_message_never_lifts_a_rule(person, contact, now, more):
    before = {found.rule for found in held_back(person, contact, SHOP, now=now)}
    times = (*person.sent.get("email", ()), more)
    written = Person(**{**vars(person), "sent": {**person.sent, "email": times}})
    assert before <= {found.rule for found in held_back(written, contact, SHOP, now=now)}


@bounded(max_examples=25, deadline=None)
@given(person=people, channel=channels)
def test_there_is_always_an_hour_that_is_allowed(person, channel):
    assert allowed_hours(person, channel, SHOP.rules).any()


def test_the_hours_that_are_allowed_are_those_at_which_nothing_is_held_back():
    person = about()
    free = [not held_back(person, SMS, SHOP, now=NOW.replace(hour=hour)) for hour in range(24)]
    assert free == allowed_hours(person, "sms", SHOP.rules).tolist()
    assert np.flatnonzero(free).tolist() == list(range(8, 21))


@pytest.mark.parametrize("text", ["", "in 7", "2 in 0", "-1 in 7", "2 in 7 days", "99999 in 1"])
def test_how_often_is_read_whole_or_not_at_all(text):
    assert cap_of(text) is None


def test_settings_that_cannot_hold_are_refused_with_their_place():
    with pytest.raises(ValueError, match=r"random \+ usual \+ holdout = 1.1"):
        Arms(random=0.5, usual=0.5, holdout=0.1)
    with pytest.raises(ValueError, match="quiet_hours"):
        Rules(quiet_hours={"sms": "late"})
    with pytest.raises(ValueError, match="caps"):
        Rules(caps={"sms": "seldom"})
