"""A world: every parameter of the simulated shop, read from TOML and refused when a key is not known."""

from __future__ import annotations

import tomllib
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from data.errors import DataError
from data.settings import Section, Share

DEFAULT = Path(__file__).parent / "worlds" / "default.toml"

Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]


class Time(Section):
    """[time]."""

    end: datetime


class Category(Section):
    """One of `catalogue.categories`."""

    name: str
    share: Positive
    price: Positive
    margin: Share
    rebuy: Share
    season_month: int = Field(ge=1, le=12)
    season_strength: float = Field(ge=0, lt=1)
    nouns: tuple[str, ...] = Field(min_length=1)


class Catalogue(Section):
    """[catalogue]."""

    items: int = Field(ge=10)
    popularity_exponent: Weight
    new_share: Share
    novelty: Weight
    novelty_half_life_days: Positive
    discontinued_share: Share
    price_changes_per_year: Weight
    price_change_sigma: Weight
    price_sigma: Weight
    brands: tuple[str, ...] = Field(min_length=1)
    styles: tuple[str, ...] = Field(min_length=1)
    categories: tuple[Category, ...] = Field(min_length=2)


class Tastes(Section):
    """[tastes]."""

    factors: int = Field(ge=1)
    strength: Weight
    category_strength: Weight
    price_strength: Weight
    pool: int = Field(ge=1)
    pool_concentration: float = Field(gt=0, le=1)
    wander_days: Positive
    explore_share: Share


class Country(Section):
    """One of `people.countries`."""

    country: str
    locale: str
    timezone: str
    share: Positive


class Source(Section):
    """One of `people.acquisition`."""

    name: str
    share: Positive
    stay: Positive


class Population(Section):
    """[people]."""

    existing_share: Share
    history_days: Positive
    gone_share: Share
    tiers: tuple[str, ...] = Field(min_length=2)
    tier_shares: tuple[Positive, ...]
    tier_change_share: Share
    move_share: Share
    shared_device_share: Share
    countries: tuple[Country, ...] = Field(min_length=1)
    acquisition: tuple[Source, ...] = Field(min_length=1)


class Visits(Section):
    """[visits]."""

    per_week: Positive
    shape: Positive
    lifetime_days: Positive
    lifetime_sigma: Weight
    fade_days: Positive
    fade_floor: Share
    return_share: Share
    return_gap_days: Positive
    browse_days: Positive
    weekdays: tuple[Positive, ...] = Field(min_length=7, max_length=7)
    year_peak_month: int = Field(ge=1, le=12)
    year_strength: float = Field(ge=0, lt=1)
    hour_peaks: tuple[float, ...] = Field(min_length=1)
    hour_peak_shares: tuple[Positive, ...]
    hour_peak_sigma: Weight
    hour_sigma: Positive
    any_hour_share: Share
    app_share: Share
    signed_out_share: Share
    strangers_per_user: Weight
    stranger_visits: Positive


class Funnel(Section):
    """[funnel]."""

    views: float = Field(gt=1)
    list_share: Share
    search_share: Share
    home_share: Share
    add_share: Share
    buyer_add_share: Share
    rebuy_add_share: Share
    remove_share: Share
    abandon_checkout_share: Share
    review_share: Share
    dwell_seconds: Positive
    dwell_sigma: Weight
    late_share: Share
    late_hours: Positive
    event_delay_seconds: Positive


class Orders(Section):
    """[orders]."""

    buy_logit: float
    buy_sigma: Weight
    rhythm_days: Positive
    rhythm_sigma: Weight
    need_logit: float
    need_sharpness: Positive
    need_visits: Weight
    views_logit: float
    guest_order_share: Share
    quantity_more: float = Field(ge=0, lt=1)
    return_share: Share
    return_days: Positive


class Channel(Section):
    """One of `messages.channels`."""

    name: str
    reach: Share
    every_days: int = Field(ge=1)
    open_logit: float
    click_logit: float
    unsubscribe: Share
    bounce: Share
    machine: bool


class Messages(Section):
    """[messages]."""

    send_share: Share
    first_hour: float = Field(ge=0, le=24)
    last_hour: float = Field(ge=0, le=24)
    hour_logit: float
    hour_width: Positive
    open_sigma: Weight
    click_sigma: Weight
    fatigue_logit: float
    absence_logit: float
    open_hours: Positive
    click_minutes: Positive
    machine_share: Share
    machine_minutes: Positive
    dead_address_share: Share
    topic_share: Share
    impersonal_share: Share
    channels: tuple[Channel, ...] = Field(min_length=1)


class Experiment(Section):
    """[experiment]."""

    every_days: int = Field(ge=2)
    window_days: int = Field(ge=1)
    random_share: Share
    holdout_share: Share
    usual_probability: Share
    variant_every: int = Field(ge=1)
    absent_share: Share


Trait = Literal["price_sensitivity", "loyalty", "affinity", "abroad", "evening", "small_basket", "frequent", "luck"]


class Offer(Section):
    """One of `offers`."""

    name: str
    kind: Literal["percent", "amount", "shipping", "gift"]
    value: Weight
    cost: Weight
    min_spend: Weight
    category: str
    lift: Share
    lift_logit: float
    moved_by: dict[Trait, float]
    annoyance: Share
    annoyance_logit: float
    annoyed_by: dict[Trait, float]


class Variant(Section):
    """One of `variants`."""

    text: str
    attributes: dict[str, str]
    liked_by: dict[Trait, float]


class Dirt(Section):
    """[dirt]."""

    share: Share


class World(Section):
    """Every parameter of the simulated shop; `simulation/worlds/default.toml` says what each means."""

    time: Time
    catalogue: Catalogue
    tastes: Tastes
    people: Population
    visits: Visits
    funnel: Funnel
    orders: Orders
    messages: Messages
    experiment: Experiment
    offers: tuple[Offer, ...] = Field(min_length=1)
    variants: tuple[Variant, ...] = Field(min_length=1)
    dirt: Dirt

    @classmethod
    def load(cls, path: Path | str | None = None) -> World:
        """The default world, with a TOML file laid over it.

        Raises:
            DataError: no such file, no TOML, or a key or value that is not known; names each place.

        Example:
            >>> World.load().catalogue.items
            1500
        """
        values = tomllib.loads(DEFAULT.read_text(encoding="utf-8"))
        if path is not None:
            try:
                values = _over(values, tomllib.loads(Path(path).read_text(encoding="utf-8")))
            except (OSError, UnicodeDecodeError) as error:
                raise DataError(f"{path} cannot be read: {error}. Give --world a TOML file.") from error
            except tomllib.TOMLDecodeError as error:
                raise DataError(f"{path}: not valid TOML: {error}. Mend that line.") from error
        try:
            return cls(**values)
        except ValidationError as error:
            places = "; ".join(
                f"{'.'.join(map(str, e['loc'])) or 'world'}: {e['msg']} (got {e['input']!r:.60})"
                for e in error.errors()
                if e["type"] != "too_short" or not e["input"]  # else it lacks those that are wrong themselves
            )
            raise DataError(f"{path}: {places}. {DEFAULT} names and explains every parameter.") from error

    @model_validator(mode="after")
    def _fits_together(self) -> World:
        for what, names, shares in (
            ("people.tier_shares", self.people.tiers, self.people.tier_shares),
            ("visits.hour_peak_shares", self.visits.hour_peaks, self.visits.hour_peak_shares),
        ):
            if len(names) != len(shares):
                raise ValueError(f"{what} has {len(shares)} shares for {len(names)} things")
        known = {category.name for category in self.catalogue.categories}
        for offer in self.offers:
            if offer.category and offer.category not in known:
                raise ValueError(f"offer {offer.name!r} is for {offer.category!r}; the categories are {sorted(known)}")
        if self.experiment.window_days >= self.experiment.every_days:
            raise ValueError(
                "experiment.window_days must be shorter than experiment.every_days: windows cannot overlap"
            )
        if self.experiment.random_share + self.experiment.holdout_share > 1 + 1e-9:
            raise ValueError("experiment.random_share and experiment.holdout_share are above 1 together")
        if self.time.end.tzinfo is None:
            raise ValueError("time.end has no time zone; write 2026-07-01T00:00:00Z")
        return self


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, tables merged, everything else replaced."""
    return below | {
        key: _over(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }
