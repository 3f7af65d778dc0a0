"""The audience's page: figures to be checked by hand, intervals that hold, the same bytes, nothing from outside."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.errors import DataError
from evaluation.audience import Audience, Reason, audience, expected, metrics, text, write


@pytest.fixture
def found() -> Audience:
    people = pd.DataFrame({
        "churn": [0.9, 0.7, 0.1, 0.1, np.nan],
        "lifecycle": ["lapsed", "lapsed", "loyal", "loyal", "new"],
        "vip": [True, False, True, False, False],
    })  # fmt: skip
    held = (people.churn > 0.5).to_numpy()
    return audience(people, held, labels=["churn"], segments=["vip"], where="churn > .5 <b>", at="2026-01-31")


def test_figures_are_those_of_the_rows(found: Audience) -> None:
    [churn] = found.outcomes
    assert (found.size, found.everybody) == (2, 5)
    assert churn.inside.share.estimate == pytest.approx(0.8)
    assert churn.everybody.people == 4  # somebody is outside of the population
    assert churn.times == pytest.approx(0.8 / 0.45)
    assert [(p.name, p.people, p.share, p.everybody) for p in found.parts] == [
        ("lapsed", 2, 1.0, 0.4),
        ("loyal", 0, 0.0, 0.4),
        ("new", 0, 0.0, 0.2),
        ("vip", 1, 0.5, 0.4),
    ]


def test_reach_and_reasons_stand_beside_everybody(tmp_path: Path) -> None:
    people = pd.DataFrame({"churn": [0.9, 0.8, 0.1], "lifecycle": ["lapsed"] * 3})
    reach = pd.DataFrame({"email": [True, False, True], "sms": [False, False, True]})
    found = audience(
        people, np.array([True, True, False]), labels=["churn"], where="x", at="2026-01-31", reach=reach,
        reasons=[Reason("churn", "days_since_order", 80.0, 20.0, 1.5), Reason("churn", "events_7d", 1.0, 1.1, 1.01)],
        meanings={"churn": "no order within 90 days"},
    )  # fmt: skip
    assert [(r.channel, r.people, r.share) for r in found.reach] == [
        ("email", 1, 0.5), ("sms", 0, 0.0), ("no channel", 1, 0.5)
    ]  # fmt: skip
    assert "churn because days_since_order is 80, of everybody 20: odds x 1.50" in text(found)
    assert metrics(found)["reach.email"].estimate == 0.5
    write(found, tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert "On which channel can they be reached?" in page
    assert "no order within 90 days" in page
    assert "days since order" in page
    assert "events, last 7 days" not in page  # it moves the odds by next to nothing


def test_the_interval_holds_what_happens_in_19_of_20_audiences() -> None:
    rng = np.random.default_rng(0)
    p = rng.beta(1, 4, 500)
    share = expected(p).share
    happened = (rng.uniform(size=(2000, 500)) < p).mean(axis=1)
    assert np.mean((share.low <= happened) & (happened <= share.high)) == pytest.approx(0.95, abs=0.015)


def test_nobody_is_an_audience_too() -> None:
    people = pd.DataFrame({"churn": [0.5], "lifecycle": ["new"]})
    nobody = audience(people, np.array([False]), labels=["churn"], where="churn > .9", at="2026-01-31")
    assert text(nobody).endswith("Nobody is in it: ask for less in --where.")


@pytest.mark.filterwarnings("error")
def test_pages_are_whole_without_network_or_script_and_the_same_again(found: Audience, tmp_path: Path) -> None:
    for name in ("a.html", "b.html", "a.json", "b.json"):
        write(found, tmp_path / name)
    page = (tmp_path / "a.html").read_text()
    assert page == (tmp_path / "b.html").read_text()
    assert "&lt;b&gt;" in page
    assert not any(outside in page for outside in ("http", "<script", "<link", "url(", "nan"))
    tags = [tag for tag, _ in _Tags.of(page)]
    assert tags.count("caption") == tags.count("table") == 3
    assert all("scope" in attributes for tag, attributes in _Tags.of(page) if tag == "th")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text())["outcomes"][0]["inside"]["people"] == 2
    with pytest.raises(DataError, match=r"end it on \.html or \.json"):
        write(found, tmp_path / "a.pdf")


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    @classmethod
    def of(cls, page: str) -> list[tuple[str, dict[str, str | None]]]:
        parser = cls()
        parser.feed(page)
        return parser.found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
