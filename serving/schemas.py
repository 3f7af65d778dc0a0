"""What the HTTP routes ask and answer. Unknown fields are refused; every answer names its request and its model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError

MAX_FILTER = 1_000
Filter = Annotated[str, StringConstraints(min_length=1, max_length=MAX_FILTER)]
WHOSE = "the customer, or a visitor by their anonymous id"
MOMENT = "what the person is doing, and what is known of them now"
ONLY = "only items for which this holds, such as `category == 'tea' and price < 10`"
MOST_DETAILS, MOST_SHOWN = 20, 64
"""Of what is wrong with a request: so many fields, and values of so many characters."""
MAX_ID, MAX_ID_BYTES = 512, 1_024
"""As `data.state.rows` has them, which the client does not import."""


def _short(id_: str) -> str:
    if not id_.isascii() and len(id_.encode()) > MAX_ID_BYTES:
        raise PydanticCustomError("too_many_bytes", f"String should have at most {MAX_ID_BYTES} bytes as UTF-8")
    return id_


Id = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID, pattern=r"^[^\x00]+$"), AfterValidator(_short)]

DecisionId = Annotated[
    str | None,
    Field(
        description="send it with outcomes; null where the decision could not be stored, and so is no evidence, or "
        "where there was nothing to choose from"
    ),
]


class Ask(BaseModel):
    """A request's body."""

    # What is not finite is sent as it is, so that its row is refused rather than stored without it.
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )


class Answer(BaseModel):
    """What every answer carries."""

    model_config = ConfigDict(protected_namespaces=())

    request_id: str = Field(description="names this request in logs")
    model_version: str = Field(description="the model versions that answered, such as `recommender 3`")


class Context(Ask):
    """The moment: what the person is doing, which counts like events that just happened, and what is known of them."""

    cart: list[Id] = Field([], max_length=100, description="items in the cart")
    viewing: Id | None = Field(None, description="the item on the page")
    recent: list[Id] = Field([], max_length=100, description="items lately viewed, the newest first")
    attributes: dict[Id, Id] = Field(
        {},
        max_length=20,
        description="what is known of them now, such as their `country`: columns of `users`. Those who have no history "
        "are shown what is popular with people like them",
    )


class PersonAsk(Ask):
    """Who asks, a customer, a visitor or, with neither, a stranger; and for what."""

    user_id: Id | None = Field(None, description="the customer; an unknown one is a stranger, not an error")
    anonymous_id: Id | None = Field(None, description="the visitor")
    campaign_id: Id | None = Field(
        None,
        description="of what is being sent or shown: kept with the decision, for the report of the campaign; its "
        "variants may be shown too, those of others may not",
    )


class ItemsPart(Ask):
    """A list of items, alone or on a page."""

    placement: Id = Field(
        "default", description="where the items are shown, by that placement's rules; kept with the decision"
    )
    k: int = Field(10, ge=1, description="how many items; at most `serving.max_k`")
    exclude: list[Id] = Field([], max_length=1000, description="items that must not be shown")
    filter: Filter | None = Field(None, description=ONLY)


class OfferPart(Ask):
    """An offer, alone or on a page."""

    placement: Id = Field("default", description="where it is shown; kept with the decision")
    offers: list[Id] | None = Field(None, max_length=200, description="only these; all that there are if left out")
    cart_value: float | None = Field(
        None, ge=0, description="of the order under way: an offer that needs a larger one is left out"
    )


class VariantPart(Ask):
    """A slot, alone or on a page."""

    slot: Id = Field(description="what is to be filled, such as `subject`, `headline`, `hero`")
    variants: list[Id] | None = Field(None, max_length=200, description="only these; all of the slot if left out")


class RecommendAsk(ItemsPart, PersonAsk):
    """Items for a person, a visitor or nobody in particular."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "17850", "placement": "home", "k": 10, "context": {"viewing": "85123A"}},
                {"placement": "cart", "k": 3, "context": {"cart": ["85123A", "22423"]}, "filter": "price < 10"},
                {"k": 5, "context": {"attributes": {"country": "DE", "acquisition_channel": "ads"}}},
            ]
        }
    )

    context: Context = Field(Context(), description=MOMENT)


class RankedItem(BaseModel):
    """One item of an answer."""

    item_id: str
    score: float = Field(description="comparable among items of one source in one answer")
    source: str = Field(
        description="the model that brought it, `complements` (bought together), `together` (the same people), "
        "`popularity`, `new` (nobody touched it yet), `promoted` or `explore` (drawn at random)"
    )
    reason: str | None = Field(description="why, in words that may be shown")


class RecommendAnswer(Answer):
    """Items, best first."""

    decision_id: DecisionId
    degraded: bool = Field(
        description="a fallback answered: the model is missing or broken, or the state cannot be used"
    )
    items: list[RankedItem]
    note: str | None = Field(None, description="why there are no items")


class SimilarAsk(Ask):
    """Items like one item."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"item_id": "85123A", "k": 5}]})

    item_id: Id = Field(description="that the others are to be like; one that nobody knows is a 404")
    k: int = Field(10, ge=1, description="how many items; at most `serving.max_k`")
    filter: Filter | None = Field(None, description=ONLY)


class SimilarAnswer(Answer):
    """Items, the most alike first."""

    degraded: bool = Field(description="there is no usable model: what the same people buy answers")
    items: list[RankedItem]


class ScoreAsk(Ask):
    """How likely customers are to do something."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"user_ids": ["17850"], "models": ["churn"]}]})

    user_ids: list[Id] = Field(min_length=1, max_length=1000, description="of whom; answered in this order")
    models: list[Id] | None = Field(
        None, min_length=1, max_length=50, description="labels, `value`, `send-time`; all that there are if left out"
    )


class Reason(BaseModel):
    """What moves a score: features that say the same, told by the strongest of them."""

    feature: str = Field(description="the strongest of them")
    value: float | str | bool | None
    effect: float = Field(description="what they add to the log-odds")
    text: str = Field(description="the reason in words, with the customer's own numbers")


class Propensity(BaseModel):
    """One customer's propensity."""

    probability: float | None = Field(description="calibrated; null where nothing can be said")
    reasons: list[Reason]
    note: str | None = Field(None, description="why there is no probability, or no reason")


class SendTime(BaseModel):
    """When and where to write to one customer."""

    hour: int | None = Field(
        description="to send at, 0 to 23, by the customer's own clock: the best one or, with the share that is set "
        "aside to learn from, any allowed one; null where nothing can be said"
    )
    probability: float | None = Field(description="the chance with which `hour` was chosen; kept with the decision")
    best_hour: int | None = Field(description="at which they open most readily, or the hours that they chose")
    time_zone: str | None = Field(description="of the hours")
    channel: str | None = Field(description="on which they open most readily; null if none of those known reaches them")
    open_rate: float | None = Field(description="expected at the best hour on that channel")
    open_rate_low: float | None = Field(description="lower end of its interval of 90 %")
    open_rate_high: float | None = Field(description="upper end")
    fallback: bool = Field(description="nothing is known of their habits: this is what is best for everybody")
    note: str | None = Field(description="what else is to be known, such as a time zone that is only the shop's usual")
    decision_id: str | None = Field(description="send it with the message; null when the decision could not be stored")


class Worth(BaseModel):
    """What one customer is expected to spend from now on."""

    value: float | None = Field(
        description="expected money over the horizon, after discounts and returns; null where nothing can be said"
    )
    low: float | None = Field(description="lower end of what may come: 80 % of the customers end between the two")
    high: float | None = Field(description="upper end")
    orders: float | None = Field(description="expected number of orders")
    horizon_days: int | None = Field(description="over which it comes")
    currency: str = Field(description="of the money")
    note: str | None = Field(None, description="why there is no value")


class UserScore(BaseModel):
    """What is expected of one customer."""

    user_id: str
    scores: dict[str, Propensity] = Field(description="by label")
    value: Worth | None = Field(None, description="null where it was not asked for")
    lifecycle_stage: str | None = Field(description="such as `new`, `loyal`, `at risk`; null where nothing tells")
    segments: list[str] = Field(description="those of the settings that they are in")
    send_time: SendTime | None = Field(None, description="null where it was not asked for")


class ScoreAnswer(Answer):
    """One entry for each customer asked about, in the order asked."""

    users: list[UserScore]
    warnings: list[str] = Field(description="why the scores are to be read with care, such as a stale model")


class EventsAsk(Ask):
    """Events, each with an `event_id`. Columns outside the contract are kept."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "events": [
                        {
                            "event_id": "e-1",
                            "event": "product_viewed",
                            "user_id": "17850",
                            "item_id": "85123A",
                            "occurred_at": "2026-01-31T12:00:00Z",
                        }
                    ]
                }
            ]
        }
    )

    events: list[dict[str, Any]] = Field(
        min_length=1,
        max_length=1000,
        description="each with `event_id`, `event`, `occurred_at`, `user_id` or `anonymous_id`, and any further column",
    )


class Refused(BaseModel):
    """A row that was not stored."""

    table: str
    position: int = Field(description="where in the request it stood, from 0")
    id: str | None = Field(description="the row's own; null where it has none, or its person was erased")
    field: str = Field(description="the column at fault")
    message: str = Field(description="what is wrong with it")


class EventsAnswer(Answer):
    """What became of each event; those accepted are on the disk."""

    accepted: int = Field(description="rows that are new")
    duplicates: int = Field(description="rows whose id was known: nothing was changed")
    refused: list[Refused] = Field(description="rows that were not stored, each with its reason")


class OutcomesAsk(Ask):
    """What came of decisions, each with an `outcome_id`. Columns outside the contract are kept."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "outcomes": [
                        {
                            "outcome_id": "o-1",
                            "decision_id": "18ea0f4b5c3d2e1f0a1b2c3d4e5f6071",
                            "kind": "click",
                            "chosen_id": "22086",
                            "position": 0,
                            "at": "2026-01-31T12:00:05Z",
                        }
                    ]
                }
            ]
        }
    )

    outcomes: list[dict[str, Any]] = Field(
        min_length=1,
        max_length=1000,
        description="each with `outcome_id`, `decision_id`, `kind`, `at`, and `chosen_id`, `position`, `value`",
    )


class OutcomesAnswer(EventsAnswer):
    """What became of each outcome; those accepted are on the disk."""


class ConsentsAsk(Ask):
    """What a person allows and forbids; without `consents` it is only told what holds."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"user_id": "17850", "consents": {"email": True, "personalisation": False}}]}
    )

    user_id: Id = Field(description=WHOSE)
    consents: dict[Id, bool] = Field(
        {}, max_length=50, description="by purpose: `marketing`, `personalisation`, or a channel such as `email`"
    )
    at: Id | None = Field(None, description="when they said so; now if left out")


class Holding(BaseModel):
    """Whether something is allowed."""

    granted: bool = Field(description="whether it is allowed now")
    at: datetime | None = Field(description="when they said so; null where they did not, and it is assumed")


class ConsentsAnswer(Answer):
    """What holds now. A purpose or channel that is not there needs a yes."""

    user_id: str
    consents: dict[str, Holding]


class PreferencesAsk(Ask):
    """What a person chooses for themselves; without `preferences` it is only told what holds."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "17850", "preferences": {"topics": ["Tea"], "frequency": "weekly", "hours": "20-23"}}
            ]
        }
    )

    user_id: Id = Field(description=WHOSE)
    preferences: dict[Id, Id | list[Id] | None] = Field(
        {},
        max_length=50,
        description="`topics` and `channels` (lists; an empty one is none of them), `frequency` (`daily`, `weekly`, "
        "`monthly`, `never`, or `2 in 7` days), `hours` (`20-23`), and any other, which is kept; null takes one back",
    )
    at: Id | None = Field(None, description="when they chose; now if left out")


class PreferencesAnswer(Answer):
    """What holds now."""

    user_id: str
    preferences: dict[str, str] = Field(description="the last choice of each name; lists with commas")


class TablesAsk(Ask):
    """Rows of the catalogue and of customers. A row is whole: it replaces what was known under its key."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"items": [{"item_id": "85123A", "name": "T-light holder", "available": False}]}]
        }
    )

    users: list[dict[str, Any]] = Field([], max_length=1000)
    items: list[dict[str, Any]] = Field([], max_length=1000)
    offers: list[dict[str, Any]] = Field([], max_length=1000)
    variants: list[dict[str, Any]] = Field([], max_length=1000)
    messages: list[dict[str, Any]] = Field([], max_length=1000)


class TablesAnswer(Answer):
    """What became of the rows; those upserted are on the disk and in force within two seconds."""

    upserted: dict[str, int] = Field(description="rows by table")
    refused: list[Refused]


class ActionsAsk(Ask):
    """What is to be done for a person now."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"user_id": "17850", "channel": "email"}]})

    user_id: Id
    channel: Id | None = Field(None, description="only what goes out on it")


class RuleAgainst(BaseModel):
    """A rule that speaks against something."""

    rule: str = Field(description="its name, such as `consent`, `caps`, `ends_at` or `segment`")
    reason: str = Field(description="why, in words")


class ActionOffer(BaseModel):
    """The offer of a message."""

    offer_id: str
    name: str | None
    decision_id: str


class ActionItem(BaseModel):
    """One item of a message."""

    item_id: str
    name: str


class ActionVariant(BaseModel):
    """What stands in one slot of a message."""

    slot: str
    variant_id: str
    text: str | None = Field(description="its merge fields filled; null where the variant was removed since")
    decision_id: str


class DueAction(BaseModel):
    """One message that is due."""

    decision_id: str = Field(description="send it with the message and with outcomes; the same however often asked")
    trigger: str
    step: int = Field(description="of the trigger's journey, from 1")
    began_at: datetime = Field(description="when the journey began")
    about: str | None = Field(description="the item, category or page that it is about")
    about_items: list[str] = Field(description="items that began it, the newest first: those in the cart, say")
    channel: str
    send_at: datetime = Field(description="when to send it")
    hour: int | None = Field(description="of the person's own day, chosen for them; null = as soon as it is due")
    hour_probability: float | None = Field(description="the chance with which the hour was chosen")
    time_zone: str = Field(description="the person's, of `hour`")
    offer: ActionOffer | None = Field(description="null = without one")
    variants: list[ActionVariant]
    items: list[ActionItem]
    items_decision_id: str | None = Field(description="of the items; null where there are none")
    expected_value: float | None = Field(description="as the trigger's `value` tells it; null where that is not known")
    again: bool = Field(description="it was handed out before: whoever sent it already does not send it again")


class HeldBack(RuleAgainst):
    """Something that is due and is not done; by the rule `conflict` because another goes first."""

    action: str = Field(description="the trigger and its step, such as `cart_abandoned.1`")
    channel: str


class WaitingJourney(BaseModel):
    """A journey of which nothing is due."""

    trigger: str
    about: str | None
    why: str = Field(description="`waits`, `goal`, `exit`, `condition`, `late`, `re_entry` or `over`")
    reason: str


class ActionsAnswer(Answer):
    """What is to be done for the person: one message at most, or why none."""

    actions: list[DueAction]
    held_back: list[HeldBack] = Field(description="what was due and is not done, each with the rule against it")
    waiting: list[WaitingJourney] = Field(description="journeys under way of which nothing is due now")
    note: str | None = Field(description="why nothing is to be done")


class OffersAsk(OfferPart, PersonAsk):
    """The offer for a person, a visitor or a stranger, or none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "17850", "placement": "checkout", "channel": "web", "cart_value": 42.5},
                {"user_id": "17850", "channel": "email", "offers": ["ten-percent", "free-delivery"]},
            ]
        }
    )

    channel: Id = Field("web", description="on which the person hears of it: rules and costs go by it")
    k: int = Field(1, ge=1, le=20, description="how many at the most; with more than one nothing is learnt from them")


class RankedOffer(BaseModel):
    """One offer to be made."""

    offer_id: str
    name: str | None
    expected_profit: float | None = Field(
        description="money that this person is expected to bring with it more than without, after all its costs; null "
        "where nothing tells it"
    )
    low: float | None = Field(
        description="lower end of an interval of 95 %: of the offer's average, and of how far people's differences are "
        "believed; what one person will do is less sure"
    )
    high: float | None = Field(description="upper end")
    reason: str = Field(description="the same in words")


class WithheldOffer(RuleAgainst):
    """An offer that may not be made."""

    offer_id: str


class OffersAnswer(Answer):
    """The offers to be made, best first; none where no offer is best."""

    decision_id: DecisionId
    degraded: bool = Field(description="the model is missing or broken, or the state cannot be used")
    offers: list[RankedOffer]
    suppressed: list[WithheldOffer]
    note: str | None = Field(description="why there is no offer")


class VariantsAsk(VariantPart, PersonAsk):
    """The wording or picture of a slot for a person, a visitor or a stranger."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "17850", "slot": "subject", "campaign_id": "spring", "channel": "email"},
                {"anonymous_id": "visitor-1", "slot": "hero", "variants": ["hero-tea", "hero-cups"], "format": "html"},
            ]
        }
    )

    channel: Id | None = Field(None, description="on which it is shown: a variant may suit one better than another")
    offer_id: Id | None = Field(
        None,
        description="the offer shown beside, or `none`: a variant with another `offer_id` among its attributes is "
        "left out",
    )
    format: Literal["text", "html"] = Field(
        "text", description="`html` escapes what merge fields are filled with, `text` leaves it as it is"
    )
    k: int = Field(10, ge=1, le=200, description="how many to tell of, the one to show first")


class RankedVariant(BaseModel):
    """One variant."""

    variant_id: str
    text: str = Field(description="its merge fields filled: with the person's own values, else with the fallbacks")
    attributes: dict[str, Any] = Field(description="as the table `variants` has them")
    probability: float = Field(description="with which it was to be shown to this person; kept with the decision")
    best: float = Field(description="chance that it is the best of them for this person, as far as is known")


class WithheldVariant(RuleAgainst):
    """A variant that may not be shown."""

    variant_id: str


class VariantsAnswer(Answer):
    """The variant to show, which is the first: it was drawn. The others follow by their chance."""

    decision_id: DecisionId
    degraded: bool = Field(description="the state cannot be used")
    variants: list[RankedVariant]
    suppressed: list[WithheldVariant]
    enough: bool | None = Field(
        description="trying the slot's variants on cannot gain more than 1 %, it is 95 % sure; null without variants"
    )
    note: str | None = Field(description="why there is no variant")


class DecideAsk(PersonAsk):
    """A page or a message whole: its offer, its slots and its items, for one person."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "user_id": "17850",
                    "channel": "email",
                    "campaign_id": "spring",
                    "offer": {"placement": "mail"},
                    "variants": [{"slot": "subject"}, {"slot": "hero"}],
                    "items": [{"placement": "mail", "k": 4}],
                }
            ]
        }
    )

    channel: Id = Field("web", description="on which all of it is shown or sent: rules and costs go by it")
    context: Context = Field(Context(), description=MOMENT)
    format: Literal["text", "html"] = Field("text", description="`html` escapes what merge fields are filled with")
    offer: OfferPart | None = Field(None, description="one offer, or none; left out = without asking")
    variants: list[VariantPart] = Field([], max_length=20, description="one variant for each slot")
    items: list[ItemsPart] = Field([], max_length=10, description="lists of items, none of which is in two")
    send_time: bool = Field(False, description="tell when to send it too, and decide whether it may be sent then")


class DecidedItems(BaseModel):
    """One list of items."""

    placement: str
    decision_id: DecisionId
    items: list[RankedItem]
    note: str | None = Field(description="why there are no items")


class DecidedOffer(BaseModel):
    """The offer."""

    placement: str
    decision_id: DecisionId
    offer: RankedOffer | None = Field(description="null = no offer is best, or none may be made")
    suppressed: list[WithheldOffer]
    note: str | None = Field(description="why there is no offer")


class DecidedVariant(BaseModel):
    """What stands in a slot."""

    slot: str
    decision_id: DecisionId
    variant: RankedVariant | None = Field(description="null = none may be shown")
    suppressed: list[WithheldVariant]
    note: str | None = Field(description="why there is none")


class DecidedTime(BaseModel):
    """When to send a message."""

    send_at: datetime | None = Field(description="the next such hour; null = nothing tells a better one than now")
    hour: int | None = Field(description="of the person's own day")
    probability: float | None = Field(
        description="the chance with which the hour was chosen; null where it gave way to one that is not quiet"
    )
    time_zone: str | None = Field(description="the person's, of `hour`")
    decision_id: str | None = Field(description="send it with the message; null where no hour was drawn or stored")
    note: str | None = Field(description="what else is to be known, or why there is no hour")


class DecideAnswer(Answer):
    """The parts in the order asked, each with a decision of its own."""

    degraded: bool = Field(description="a fallback answered for a part, or something could not be stored")
    held_back: list[RuleAgainst] = Field(
        description="why nothing is to be sent to this person on this channel now; then there are no parts"
    )
    offer: DecidedOffer | None
    variants: list[DecidedVariant]
    items: list[DecidedItems]
    send_time: DecidedTime | None = Field(None, description="null where it was not asked for")


class EraseAsk(Ask):
    """A person to remove, for good."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"user_id": "17850", "keep_orders": True}]})

    user_id: Id = Field(description=WHOSE)
    keep_orders: bool = Field(
        False, description="leave their orders as a guest's, for shops that must keep their books"
    )


class ReceiptOf(BaseModel):
    """What was removed of a person, without naming them."""

    erasure_id: str = Field(description="names this erasure; the workspace keeps `erasures/<erasure_id>.json`")
    person: str = Field(description="the user id's hash, keyed with the workspace's salt")
    at: str = Field(description="when the live state was cleared")
    keep_orders: bool
    visitors: int = Field(description="anonymous ids that were theirs")
    state: dict[str, int] = Field(description="rows removed from the live state, by table")
    files: dict[str, int] = Field(description="rows removed from each file of the workspace")
    orders_kept: int = Field(description="order lines that stay, without the person")
    complete: bool = Field(
        description="whether the files were searched and cleared too, as is needed of somebody nobody knows too; until "
        "then ask again, which gives the same receipt"
    )
    outside: str = Field(description="what this does not reach")


class EraseAnswer(Answer):
    """The receipt. The person is answered as a stranger from now on, and no row of theirs is taken in again."""

    receipt: ReceiptOf


class ExplainAsk(Ask):
    """Whose data is to be told."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"user_id": "17850"}]})

    user_id: Id = Field(description=WHOSE)


class KnownRows(BaseModel):
    """What one table has of a person."""

    table: str
    about: str = Field(description="what a row is")
    rows: int
    first: datetime | None
    last: datetime | None


class KnownFeature(BaseModel):
    """One thing that was made of a person's data."""

    feature: str
    about: str = Field(description="what it says")
    value: float | str | bool
    unit: str


class ModelUse(BaseModel):
    """What one model looks at."""

    model: str = Field(description="with the version in force")
    about: str = Field(description="what it tells")
    uses: list[str] = Field(description="features, or what is used in their stead")


class Chosen(BaseModel):
    """What a person said themselves."""

    value: str
    at: datetime | None


class PastDecision(BaseModel):
    """Something that was decided for a person."""

    decision_id: str
    at: datetime
    kind: str
    where: str | None = Field(description="placement or slot")
    chosen: list[str]
    why: str = Field(description="in words: who chose, by what, with which chance")
    suppressed: list[dict[str, Any]] = Field(description="what was held back, by which rule, and why")


class ExplainAnswer(Answer):
    """All that is known of a person, what it is used for, and what never is."""

    erased: bool = Field(description="the person was erased: nothing is known, and nothing will be taken in")
    note: str | None = Field(description="why nothing is known")
    known: list[KnownRows]
    visitors: int = Field(description="anonymous ids whose history is theirs")
    attributes: dict[str, str] = Field(description="what `users` says of them now")
    features: list[KnownFeature] = Field(description="what was made of it, as of the last time they did something")
    models: list[ModelUse] = Field(description="the models in force, and what of a person they look at")
    consents: dict[str, Chosen] = Field(description="the last word on each purpose")
    preferences: dict[str, Chosen] = Field(description="the last choice of each name")
    decisions: list[PastDecision] = Field(description="the newest, the newest first")
    never_used: list[str] = Field(description="columns of people that no feature and no model looks at")


class Status(BaseModel):
    """What answers, and what does not."""

    model_config = ConfigDict(protected_namespaces=())

    ready: bool
    degraded: bool = Field(description="recommendations come from the fallback")
    model_versions: dict[str, str] = Field(description="the versions in force, by model")
    troubles: dict[str, str] = Field(
        description="by model, why its champion is not in force; under `tables`, that those checked last are not; "
        "under `state`, why rows of the live state are not seen, under `attributes`, which of their values are not read"
    )


class ErrorDetail(BaseModel):
    """One thing that is wrong with a request."""

    field: str
    message: str


class ErrorBody(BaseModel):
    """What is wrong."""

    code: str = Field(description="for programs, such as `malformed`; docs/http.md lists them")
    message: str = Field(description="for people: what is wrong, and what to do")
    details: list[ErrorDetail] = Field([], description="the fields that are wrong")


class ErrorAnswer(BaseModel):
    """Every error has this shape."""

    error: ErrorBody


def malformed(error: ValidationError, fields: Iterable[str]) -> ErrorBody:
    """What is wrong with a request: each field, the value where it is short, and what would be right; the first 20.

    Args:
        error: What pydantic found.
        fields: Those that the request has.

    Example:
        >>> try:
        ...     SimilarAsk(item_id="tea", k=0, size=3)
        ... except ValidationError as error:
        ...     print(malformed(error, SimilarAsk.model_fields).message)
        k: Input should be greater than or equal to 1, not 0; size: is no field here; there are item_id, k, filter
    """
    found = error.errors(include_url=False, include_context=False)[:MOST_DETAILS]
    details = [ErrorDetail(field=".".join(map(str, one["loc"]))[:200], message=_wrong(one, fields)) for one in found]
    told = "; ".join(f"{detail.field}: {detail.message}" if detail.field else detail.message for detail in details)
    return ErrorBody(code="malformed", message=told[:1000], details=details)


def _wrong(one: Mapping[str, Any], fields: Iterable[str]) -> str:
    kind, given = one["type"], one["input"]
    if kind == "extra_forbidden":
        known = f"there are {', '.join(fields)}" if len(one["loc"]) == 1 else "docs/http.md lists those there are"
        return f"is no field here; {known}"
    if kind == "string_pattern_mismatch":
        return "holds the character NUL, which cannot be stored"
    short = kind != "json_invalid" and isinstance(given, bool | int | float | str) and len(repr(given)) <= MOST_SHOWN
    return one["msg"].replace(" after validation", "") + (f", not {given!r}" if short else "")
