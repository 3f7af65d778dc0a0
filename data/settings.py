"""Every setting of a workspace, with its default; `attune.toml` overrides the default, `ATTUNE_*` overrides both."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from data.errors import WorkspaceError

SHIPPED_ACTIONS = Path(__file__).with_name("actions.toml")

Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A table of `attune.toml`; a misspelt key is refused rather than ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Shop(Section):
    """[shop]: who this is for."""

    name: str = Field("shop", description="as reports call it")
    currency: str = Field("USD", pattern="^[A-Z]{3}$", description="ISO 4217 code of all money in the tables")
    salt: str = Field("attune", description="mixed into stable hashes such as a user's arm")


class Data(Section):
    """[data]: when tables are not fit to train on."""

    max_bad_share: Share = Field(0.05, description="a table with a larger share of bad rows fails the check")
    max_age_days: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="newest event or order may be at most this old; empty = any age"
    )
    max_clock_skew_minutes: float = Field(
        60,
        ge=0,
        allow_inf_nan=False,
        description="clocks may disagree by this much; times further out of order are bad",
    )
    memory_limit_gb: float | None = Field(
        None, gt=0, description="DuckDB's memory; empty = its own default, and 2 for a check"
    )


class Features(Section):
    """[features]: what may be known of a person."""

    attributes: tuple[str, ...] = Field((), description="further columns of `users` that become features")
    form_answers: tuple[str, ...] = Field((), description="form answers (columns of form_submitted events)")
    sensitive: tuple[str, ...] = Field((
        "age", "birthday", "birthdate", "date_of_birth", "gender", "sex", "religion", "health", "ethnicity",
        "race", "politics", "sexual_orientation", "disability", "income", "marital_status", "pregnancy",
    ), description="attributes and answers that are no features without a reason, and categories that nothing is "
    "chosen by and no reason tells of")  # fmt: skip
    sensitive_reasons: dict[str, str] = Field(
        default_factory=dict,
        description="a sensitive attribute or category is used only if it is named here with the reason",
    )
    top_categories: int = Field(10, ge=0, le=100, description="categories that get shares of their own")


MODELS = ("recommender", "value", "offers", "variants", "send-time")
"""Registered models that are no propensities."""


def _no_other_model(label: str) -> str:
    if label in MODELS:
        raise ValueError(f"{label!r} is the name of another model. Call the label otherwise, such as 'buys_much'")
    return label


LabelName = Annotated[str, AfterValidator(_no_other_model)]


class Propensity(Section):
    """[propensity.NAME]: a label, declared."""

    event: str = Field(
        description="`[no] EVENT [where CONDITION]`: 'order', 'order in CATEGORY', 'return', 'click', 'open', "
        "'unsubscribe', 'spend', or the name of an event; the condition is over the columns of its row"
    )
    population: str = Field("True", description="who is asked about, an expression over features")
    horizon_days: int = Field(90, ge=1, le=3650, description="the event is looked for so many days from the cutoff on")
    rises_with: tuple[str, ...] = Field((), description="features that may only raise the probability")
    falls_with: tuple[str, ...] = Field((), description="features that may only lower it")


class Training(Section):
    """[training]: how models are fitted and compared."""

    seed: int = Field(0, description="the same seed and data give the same model")
    cutoffs: int = Field(8, ge=2, le=120, description="snapshots per propensity model")
    step_days: int = Field(30, ge=1, description="days between two cutoffs")
    min_history_days: int = Field(14, ge=1, description="a propensity needs so many days before its first cutoff")
    min_of_a_class: int = Field(
        50, ge=10, description="a propensity needs so many who did it, and who did not, over the cutoffs learnt from"
    )
    min_of_a_class_per_cutoff: int = Field(
        10, ge=1, description="and so many on every cutoff, that of the judgement included"
    )
    bootstrap: int = Field(1000, ge=100, description="resamples behind each interval")
    fairness: tuple[str, ...] = Field(
        (),
        description="columns of `users` whose groups a propensity is judged on side by side; they need be no features",
    )
    trials: int | None = Field(None, ge=1, description="search for each model, so many trials; empty = no limit")
    minutes: float | None = Field(
        None, gt=0, allow_inf_nan=False,
        description="search for each model, about so long; both empty = no search",
    )  # fmt: skip


class Drift(Section):
    """[drift]: when `attune check --drift` warns, and when it fails."""

    warn: float = Field(
        0.1, gt=0, allow_inf_nan=False, description="a population stability index above it is a warning"
    )
    alarm: float = Field(0.25, gt=0, allow_inf_nan=False, description="above it, an alarm: exit code 1")
    stale_after_horizons: float = Field(
        2, gt=0, allow_inf_nan=False, description="a model is stale when what it learnt from ended so many horizons ago"
    )


class Value(Section):
    """[value]: what customers are worth."""

    horizon_days: int = Field(90, ge=1, le=3650, description="money and orders are foreseen so many days ahead")
    min_repeaters: int = Field(
        50, ge=10, description="so many customers must have ordered more than once, at every cutoff learnt from"
    )


class SendTime(Section):
    """[send_time]: when and where people are written to."""

    explore: Share = Field(
        0.1, description="share of the hours that are drawn at random: without it nobody knows what timing earns"
    )


class Variants(Section):
    """[variants]: which wording or picture is shown in each slot."""

    reward: Literal["open", "click", "conversion", "value"] = Field(
        "click", description="what is learnt to bring about, an outcome's kind; 'value' = the money of conversions"
    )
    window_hours: float = Field(
        72, gt=0, allow_inf_nan=False, description="an outcome counts if it comes so soon after the decision"
    )
    floor: float = Field(0.01, ge=0, lt=0.5, description="each variant is shown with at least this probability")
    half_life_days: float = Field(
        60, gt=0, allow_inf_nan=False, description="what was seen counts half after so many days: tastes change"
    )
    draws: int = Field(1000, ge=100, le=10_000, description="posterior draws that the probabilities are estimated from")


class Offers(Section):
    """[offers]: what an offer costs and brings, and how many may be given."""

    horizon_days: int = Field(
        14, ge=1, le=365, description="what people bring so many days from the decision on counts"
    )
    margin: Share | None = Field(
        None, description="share of what people pay that is earned; empty = the price less `items.cost`, or all of it"
    )
    contact_costs: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        default_factory=dict, description="what telling somebody of an offer costs, by channel"
    )
    usual: str = Field(
        "",
        description="the rule before models came, such as `orders_90d > 0 -> offer-1 else none`, over features; "
        "empty = no offer",
    )
    explore: Share = Field(
        0.2,
        description="share of the decisions of arm `model` that are drawn, mostly among what may well be best, so that "
        "the next training learns from them",
    )
    min_decisions: int = Field(
        100, ge=50, description="an offer is learnt about once chance gave it so many times, and no offer as often"
    )
    budget: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="offers given cost at most so much in `budget_days`, as if each were redeemed once; empty = any",
    )
    budget_days: int = Field(7, ge=1, le=365, description="after so many days the budget is there anew")


class Recommender(Section):
    """[recommender]: what counts as interest, and for how long."""

    event_weights: dict[str, float] = Field(
        default_factory=lambda: {
            "product_viewed": 1.0,
            "product_clicked": 1.0,
            "product_added": 3.0,
            "product_added_to_wishlist": 2.0,
            "product_reviewed": 2.0,
            "order": 5.0,
        },
        description="weight of an event on an item; 'order' is an order line or order_completed",
    )
    half_life_days: float = Field(90, gt=0, description="an interaction counts half after so many days")
    horizon_days: int = Field(14, ge=1, description="what a recommender is judged on: the days after the cutoff")
    item_columns: tuple[str, ...] = Field(
        (),
        description="columns of `items` that say what an item is like, beside category, brand, price and name; "
        "filters may name them",
    )
    max_attributes: int = Field(
        2000, ge=1, le=20_000, description="words, categories, brands, ... that are kept; the most frequent ones"
    )


class Arms(Section):
    """[arms]: how people are shared out, to tell what personalisation earns; for all others the models decide."""

    random: Share = Field(0.05, description="share of the people for whom chance decides, evenly")
    usual: Share = Field(0.05, description="share of the people for whom the rule decides that the shop had before")
    holdout: Share = Field(0.05, description="share of the people for whom nothing personal is done")
    period_days: int = Field(90, ge=1, le=3650, description="after so many days people are shared out anew")

    @model_validator(mode="after")
    def _leaves_a_rest(self) -> Self:
        if self.model < 0:
            total = self.random + self.usual + self.holdout
            raise ValueError(f"random + usual + holdout = {total:g}; they must leave a share for the models, or 0")
        return self

    @property
    def model(self) -> float:
        """Share of the people for whom models decide."""
        return round(1 - self.random - self.usual - self.holdout, 12)


CapText = Annotated[str, Field(pattern=r"^\d{1,4} in [1-9]\d{0,3}$")]
HoursText = Annotated[str, Field(pattern=r"^([01]?\d|2[0-3])-([01]?\d|2[0-4])$")]


class Rules(Section):
    """[rules]: what is held back, whoever decides."""

    on_site: tuple[str, ...] = Field(
        ("web", "in_app"),
        description="channels on which people come to us: allowed until somebody says no, and never too often or too "
        "late. Every other channel goes to people, and needs their yes",
    )
    assumed: tuple[str, ...] = Field(
        ("marketing", "personalisation"), description="purposes that are allowed until somebody says no"
    )
    caps: dict[str, CapText] = Field(
        default_factory=lambda: {"all": "5 in 7", "email": "3 in 7", "push": "3 in 7", "sms": "2 in 30"},
        description="at most so many messages in so many days, by channel; `all` over all channels together",
    )
    quiet_hours: dict[str, HoursText] = Field(
        default_factory=lambda: {"push": "21-8", "sms": "21-8"},
        description="by channel, hours of the person's own day at which nothing is sent; hours they chose go before",
    )
    days_after_purchase: float = Field(
        7, ge=0, allow_inf_nan=False, description="who ordered is left alone so long, but for what is about the order"
    )
    bounce_days: float = Field(
        180, ge=0, allow_inf_nan=False, description="a channel that bounced is not used for so long, or until a new yes"
    )
    re_entry_days: float = Field(
        30, ge=0, allow_inf_nan=False, description="a trigger does not begin anew for somebody within so many days"
    )


WAIT = re.compile(r"(?:(?:(\d+(?:\.\d+)?) )?(minute|hour|day|rhythm)s?)?")
MOST_WAIT = 3_650
"""Of any unit."""


def _a_wait(text: str) -> str:
    read = WAIT.fullmatch(text)
    if read is None or float(read[1] or 0) > MOST_WAIT:
        raise ValueError(
            f"{text!r} is no wait. Write it like '30 minutes', '4 hours', '2 days' or '0.9 rhythms', "
            f"with a number up to {MOST_WAIT:,}"
        )
    return text


class ActionStep(Section):
    """[[actions.NAME.steps]]: one message of a journey."""

    wait: Annotated[str, AfterValidator(_a_wait)] = Field(
        "",
        description="how long after the step before, or after what began the journey: '30 minutes', '4 hours', "
        "'2 days', or '0.9 rhythms' of the person's own: the median of days between the events that begin it",
    )
    condition: str = Field(
        "", description="left out where it does not hold; over features, labels, segments, lifecycle"
    )
    channels: tuple[str, ...] = Field((), description="on the first of these that may be used; empty = the journey's")
    offer: str = Field("none", description="'none', 'best' or an offer_id")
    slots: tuple[str, ...] | None = Field(
        None,
        description="the message's slots; empty = all with variants whose `campaign_id` is this action's name",
    )
    items: int = Field(0, ge=0, le=50, description="so many items for this person")
    placement: str = Field("default", description="by whose rules the items are chosen")


class Action(Section):
    """[actions.NAME]: what begins a journey, its messages, and what ends it."""

    enabled: bool = Field(True, description="false turns it off")
    events: tuple[str, ...] = Field(
        (),
        description="what people do that begins it, each `EVENT [where CONDITION]`; the newest counts. Empty = it "
        "begins when `condition` comes to hold",
    )
    same: str = Field(
        "", description="column that the events must have in common, such as `category`: a journey for each"
    )
    times: int = Field(1, ge=1, le=1000, description="so many events at least")
    within_days: float = Field(30, gt=0, le=3650, description="in so many days up to the newest")
    condition: str = Field("", description="who is written to, over features, labels, segments and `lifecycle`")
    due_days: float = Field(3, gt=0, le=365, description="a step that could not be done for so long is given up")
    again_days: float | None = Field(
        None, ge=0, le=3650, description="it does not begin anew within so many days; empty = `rules.re_entry_days`"
    )
    goal: str = Field(
        "order", description="an event that ends it, reached; of the same item or category where `same` is"
    )
    exit: str = Field("", description="a condition that ends it, not reached")
    value: str = Field(
        "",
        description="what a message is expected to earn, such as 'order_value_mean * purchase'. Of several due the "
        "one that is worth most goes first",
    )
    priority: int = Field(0, description="where a worth is not known, the one with the highest goes first")
    best_hour: bool = Field(
        True, description="sent at the hour of their day that the send-time model tells; false = as soon as it is due"
    )
    purpose: str = Field("marketing", description="the consent that it needs beside the channel's")
    about_order: bool = Field(False, description="it is about an order, and so may follow one at once")
    channels: tuple[str, ...] = Field(("email",), min_length=1, description="on the first of these that may be used")
    steps: tuple[ActionStep, ...] = Field(description="its messages, in their order")


class RegistrySettings(Section):
    """[registry]: where model versions live."""

    uri: str = Field("", description="MLflow tracking URI; empty = a sqlite file in the workspace")


class StateSettings(Section):
    """[state]: where live data lives."""

    url: str = Field("", description="SQLAlchemy URL; empty = a SQLite file in the workspace")


class Serving(Section):
    """[serving]: the HTTP service."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(3000, ge=0, le=65535, description="0 = any free one")
    require_keys: bool = Field(True, description="false only for trying things out on one's own machine")
    poll_seconds: float = Field(2, gt=0, description="how often the champion aliases are looked at")
    timeout_seconds: float = Field(2, gt=0, description="a request that takes longer is given up")
    max_body_bytes: int = Field(2_000_000, ge=1_000, description="a larger request is refused")
    max_k: int = Field(200, ge=1, description="most items of one answer")
    requests_per_minute: int = Field(
        0,
        ge=0,
        description="of each key over all workers, in a minute of the clock; of all together without `require_keys`; "
        "0 = any",
    )


class Placement(Section):
    """[placements.NAME]: what is shown where, by which rules; a place that is not declared has those of `default`."""

    kind: Literal["items", "complements"] = Field(
        "items", description="'items' for this person, or 'complements': what is bought with the cart"
    )
    filter: str = Field("", description="only items for which this holds, beside the request's own filter")
    exclude_seen: bool | None = Field(
        None, description="whether what somebody had before is left out; empty = as the model was judged"
    )
    diversity: Share = Field(
        0, description="of the first n items at most (1 - diversity) * n, rounded up, are of one category, for every n"
    )
    freshness: float = Field(
        0,
        ge=0,
        allow_inf_nan=False,
        description="a brand-new item stands as if its rank were divided by 1 + freshness",
    )
    freshness_half_life_days: float = Field(
        14, gt=0, allow_inf_nan=False, description="the lift of freshness halves with so many days since `created_at`"
    )
    promoted: str | tuple[str, ...] = Field(
        (), description="which items are promoted: a list of ids, or an expression over the columns of `items`"
    )
    promoted_share: Share = Field(
        0, description="share of the places for promoted items: of the first n, promoted_share * n, rounded down"
    )
    explore: Share = Field(0, description="chance of each place to be drawn at random, logged with the decision")
    explore_among: int = Field(
        50, ge=2, le=1000, description="how many of the best items not shown yet a random place is drawn from"
    )


BOUGHT = ("orders_30d", "orders_90d", "orders_365d", "orders_life")


def _default_propensity() -> dict[str, Propensity]:
    return {
        "churn": Propensity(
            event="no order",
            population="orders_life > 0 and days_since_order < 180",
            horizon_days=90,
            rises_with=("days_since_order",),
            falls_with=BOUGHT,
        ),
        "purchase": Propensity(
            event="order", population="True", horizon_days=30, rises_with=BOUGHT, falls_with=("days_since_order",)
        ),
        "click": Propensity(
            event="click", population="sent_90d > 0", horizon_days=30, rises_with=("clicked_90d", "click_rate_90d")
        ),
    }


def _default_actions() -> dict[str, Action]:
    """What `data/actions.toml` declares."""
    return {name: Action(**declared) for name, declared in _shipped_actions().items()}


@cache
def _shipped_actions() -> dict[str, dict[str, Any]]:
    return tomllib.loads(SHIPPED_ACTIONS.read_text(encoding="utf-8"))


class Settings(BaseSettings):
    """All settings of a workspace.

    Example:
        >>> Settings().shop.currency
        'USD'
    """

    model_config = SettingsConfigDict(env_prefix="ATTUNE_", env_nested_delimiter="__", extra="forbid", frozen=True)

    shop: Shop = Shop()
    data: Data = Data()
    features: Features = Features()
    segments: dict[str, str] = Field(default_factory=dict, description="NAME = an expression over features")
    propensity: dict[LabelName, Propensity] = Field(default_factory=_default_propensity)
    training: Training = Training()
    drift: Drift = Drift()
    value: Value = Value()
    send_time: SendTime = SendTime()
    offers: Offers = Offers()
    variants: Variants = Variants()
    recommender: Recommender = Recommender()
    arms: Arms = Arms()
    rules: Rules = Rules()
    registry: RegistrySettings = RegistrySettings()
    state: StateSettings = StateSettings()
    serving: Serving = Serving()
    placements: dict[str, Placement] = Field(default_factory=dict)
    actions: dict[str, Action] = Field(default_factory=_default_actions)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file."""
        return env_settings, init_settings

    @classmethod
    def load(cls, path: Path) -> Settings:
        """The settings of one `attune.toml` (a missing file means all defaults).

        Raises:
            WorkspaceError: the file is no TOML, or a key or value is not known; names each place.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8-sig")) if path.exists() else {}
            labels = {name: label.model_dump() for name, label in _default_propensity().items()}
            for section, there in (("propensity", labels), ("actions", _shipped_actions())):
                if isinstance(declared := values.get(section, {}), dict):
                    values[section] = there | {
                        name: {**there.get(name, {}), **one} if isinstance(one, dict) else one
                        for name, one in declared.items()
                    }
            return cls(**values)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise WorkspaceError(f"{path}: not valid TOML: {error}. Mend that line.") from error
        except SettingsError as error:
            raise WorkspaceError(
                f"ATTUNE_*: {error}. Name single settings, such as ATTUNE_DATA__MAX_BAD_SHARE=0.1."
            ) from error
        except ValidationError as error:
            places = "; ".join(map(_place, error.errors()))
            raise WorkspaceError(f"{path} or ATTUNE_*: {places}. `docs/settings.md` lists every setting.") from error


def _place(error: ErrorDetails) -> str:
    name = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{name}: no such setting"  # its value may be a password
    return f"{name}: {error['msg']} (got {error['input']!r})"
