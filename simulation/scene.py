"""What all customers share: the world's parameters, the days and the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from simulation.catalogue import Items, make_items
from simulation.world import World

LAST_VISIT_DAYS = 0.15
"""No visit starts so shortly before the end, so that visits are whole."""


@dataclass(frozen=True, eq=False)
class Calendar:
    """The simulated days; times are in days since the first midnight UTC.

    Attributes:
        start_us: The first midnight, microseconds since 1970 UTC.
        days: How many days.
        months: Month of each day, 1..12, (days,).
        busyness: How busy the whole shop is on each day, about 1, (days,).
        utc_offset_hours: Of each country's time zone on each day, (countries, days).
    """

    start_us: int
    days: int
    months: np.ndarray
    busyness: np.ndarray
    utc_offset_hours: np.ndarray

    def at_hour(self, day: np.ndarray, hour: np.ndarray, country: np.ndarray) -> np.ndarray:
        """Times of local hours on whole days, in days UTC."""
        return np.asarray(day + (hour - self.utc_offset_hours[country, day]) / 24)

    def local_hour(self, at: np.ndarray, country: np.ndarray) -> np.ndarray:
        """Local hours, 0 to 24, of times in days UTC."""
        day = np.clip(at, 0, self.days - 1).astype(np.int64)
        return np.asarray((at * 24 + self.utc_offset_hours[country, day]) % 24)


@dataclass(frozen=True, eq=False)
class Scene:
    """The world, its days and its catalogue."""

    world: World
    calendar: Calendar
    items: Items


def make_scene(world: World, rng: np.random.Generator, *, days: int) -> Scene:
    """The scene of the `days` up to the world's end."""
    calendar = make_calendar(world, days)
    return Scene(world, calendar, make_items(world, rng, months=calendar.months))


def make_calendar(world: World, days: int) -> Calendar:
    """The days up to the world's end, with their seasons and time zones."""
    start = world.time.end.astimezone(UTC) - timedelta(days=days)
    dates = [start + timedelta(days=day) for day in range(days)]
    visits = world.visits
    season = np.array([date.timetuple().tm_yday / 365.25 for date in dates]) - (visits.year_peak_month - 0.5) / 12
    weekday = np.array(visits.weekdays)[[date.weekday() for date in dates]]
    offsets = [
        [
            (date.astimezone(ZoneInfo(country.timezone)).utcoffset() or timedelta()) / timedelta(hours=1)
            for date in dates
        ]
        for country in world.people.countries
    ]
    return Calendar(
        start_us=int(start.timestamp()) * 1_000_000,
        days=days,
        months=np.array([date.month for date in dates]),
        busyness=weekday / np.mean(visits.weekdays) * (1 + visits.year_strength * np.cos(2 * np.pi * season)),
        utc_offset_hours=np.array(offsets),
    )
