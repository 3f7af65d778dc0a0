"""The uplift page: words that follow the numbers, one file that loads nothing, a JSON twin with the same numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.errors import DataError
from evaluation.experiments import Metric, analyse, over_time, read_experiment
from evaluation.intervals import Interval
from evaluation.off_policy import Logged, deterministic
from evaluation.policies import compare_policies
from evaluation.units import Unit
from evaluation.uplift import contrast
from evaluation.uplift_report import Offers, Profit, Run, UpliftReport, Who, text, who, write

N = 6000
RUN = Run("mail <b>.csv", "ab" * 32, N, "0.1.0", {"treatment": "arm"})


def people(effect: float, *, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    arm = rng.permutation(N) % 2
    loyal = rng.random(N)
    visit = (rng.random(N) < 0.2 + 2 * effect * arm * loyal).astype(float)
    joined = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(N) % 28, unit="D")
    return pd.DataFrame({
        "arm": np.where(arm == 1, "mail <i>", "none"), "visit": visit, "loyal": loyal,
        "town": rng.choice(["Graz", "Linz", "Wels", "Enns"], N), "joined": joined,
    })  # fmt: skip


def judged(rows: pd.DataFrame, score: np.ndarray) -> tuple[Who, Offers]:
    arm = (rows.arm != "none").to_numpy().astype(int)
    log = Logged(arm, rows.visit.to_numpy(), np.full(N, 0.5))
    found = who(
        contrast(log, np.full((N, 2), 0.5)),
        score,
        arm="mail <i>",
        unit=Unit("share"),
        others={"the response model": np.random.default_rng(1).random(N)},
    )
    chosen = {"model": (score > 0.1).astype(int), "mail to all": np.ones(N, int), "nobody": np.zeros(N, int)}
    policies = {name: deterministic(codes, 2) for name, codes in chosen.items()}
    return found, Offers(
        "visit", Unit("share"), compare_policies(log, policies, np.full((N, 2), 0.3), arms=["none", "mail <i>"])
    )


def report(rows: pd.DataFrame, *, score: np.ndarray | None = None) -> UpliftReport:
    experiment = read_experiment(rows, treatment="arm", segments=["town"], before=["loyal", "town"])
    analysis = analyse(experiment, [Metric("visit", before=("loyal",))])
    found, offers = judged(rows, score) if score is not None else (None, None)
    treated = experiment.arm == 1
    y, at = rows.visit.to_numpy(), rows.joined
    return UpliftReport(
        analysis=analysis,
        units={"visit": Unit("share")},
        profits=(Profit("mail <i>", 10.0, 0.1, Interval(0.9, 0.5, 1.3, 0.95)),),
        who=found,
        offers=(offers,) if offers else (),
        tree="",
        periods={"mail <i>": over_time(y[treated], y[~treated], at[treated], at[~treated])},
        left_out="" if found else "Left out: nothing known before.",
        notes=("One season.",),
        run=RUN,
    )


@pytest.fixture(scope="module")
def good() -> UpliftReport:
    rows = people(0.15)
    return report(rows, score=0.3 * rows.loyal.to_numpy())


def page(of: UpliftReport, folder: Path) -> str:
    write(of, folder / "uplift.html")
    return (folder / "uplift.html").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Tags with their attributes, and what stands open."""

    VOID = ("meta", "line", "polyline", "polygon", "circle")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def of(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.found if name == tag)


def test_the_page_is_one_file_that_loads_nothing_and_is_well_formed(good: UpliftReport, tmp_path: Path) -> None:
    told = page(good, tmp_path)
    reader = Reader(told)
    assert not reader.open
    assert {tag for tag, _ in reader.found}.isdisjoint({"script", "img", "link", "iframe"})
    assert all(word not in told for word in ("http:", "https:", "url(", "@import", "<i>", "<b>"))
    assert len(told.encode()) < 500_000


def test_a_reader_who_sees_no_chart_hears_it(good: UpliftReport, tmp_path: Path) -> None:
    reader = Reader(page(good, tmp_path))
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in reader.of("svg"))
    assert all(th.get("scope") in {"row", "col"} for th in reader.of("th"))
    assert len(list(reader.of("table"))) == len(list(reader.of("caption")))
    assert len(list(reader.of("h1"))) == 1


def test_trust_stands_before_the_results_and_the_verdict_before_all(good: UpliftReport, tmp_path: Path) -> None:
    told = page(good, tmp_path)
    order = ("verdict", "Can it be trusted?", "Scorecard", "Who gains", "How many", "Which offer", "Over time",
             "Segments (exploratory)", "Limits", "Words", "How it was made")  # fmt: skip
    places = [told.index(f'class="{word}"' if word == "verdict" else word) for word in order]
    assert places == sorted(places)


def test_same_report_same_bytes_and_json_has_the_same_numbers(good: UpliftReport, tmp_path: Path) -> None:
    assert page(good, tmp_path) == page(good, tmp_path)
    write(good, tmp_path / "uplift.json")
    twin = json.loads((tmp_path / "uplift.json").read_text(encoding="utf-8"))
    assert twin["analysis"]["verdict"]["sentence"] == good.verdict.sentence
    assert twin["who"]["curve"]["best_share"]["estimate"] == good.who.curve.best_share.estimate  # type: ignore[union-attr]
    assert twin["sentences"]["who"] in text(good)


def test_who_differs_is_said_where_they_do_and_not_where_they_do_not(good: UpliftReport) -> None:
    assert good.who is not None
    assert good.who.sentence.startswith("People differ.")
    assert "The first 10 % in the model's order gain" in good.who.sentence
    random, _ = judged(people(0.15), np.random.default_rng(5).random(N))
    assert "No difference between people was found" in random.sentence
    assert random.how_many.startswith("Everybody or nobody")


def test_nobody_is_told_to_contact_those_who_are_not_shown_to_gain(good: UpliftReport) -> None:
    assert good.who is not None

    def said(low: float, *, pays: bool = False) -> str:
        best, gained, spared = (Interval(0.3, *ends, 0.95) for ends in ((0.1, 0.5), (low, 0.6), (0.1, 0.5)))
        curve = replace(good.who.curve, best_share=best, best_gain=gained, over_all=spared)  # type: ignore[union-attr]
        return replace(good.who, curve=curve, choice_pays=pays).how_many  # type: ignore[type-var]

    assert said(0.1).startswith("Contact 30 % (10 to 50 % in 95 % of resamples) of the people: leaving out the others")
    assert said(-0.1, pays=True).startswith("Contact 30 %")
    assert "not shown to be better than contacting nobody: +300 per 1,000 people (−100 to +600)" in said(-0.1)


def test_people_whom_the_model_puts_level_stand_in_one_part(tmp_path: Path) -> None:
    score = np.random.default_rng(5).random(N)
    level, _ = judged(people(0.15), np.where(np.arange(N) < N / 2, score, -1.0))
    assert [name for name, _ in level.parts][-2:] == ["40 to 50 %", "50 to 100 %"]
    assert len(level.parts) == 6
    assert len(judged(people(0.15), np.zeros(N))[0].parts) == 1
    assert "it puts them in no order" in page(report(people(0.15), score=np.zeros(N)), tmp_path)


def test_where_nothing_is_nothing_is_said(tmp_path: Path) -> None:
    rows = people(0.0, seed=3)
    found = report(rows, score=np.random.default_rng(4).random(N))
    assert not found.verdict.decided
    assert found.who is not None
    assert not found.who.differ
    assert "Act:" not in page(found, tmp_path)


def test_an_end_that_is_zero_but_for_rounding_asks_for_no_digits() -> None:
    assert Unit("share").range(Interval(0.0, 1e-17, 0.299, 0.95)) == "0 to 30 %"
    assert Unit("share").range(Interval(0.05, 0.004, 0.299, 0.95)) == "0.4 to 29.9 %"


def test_a_failed_check_replaces_the_verdict(tmp_path: Path) -> None:
    rows = people(0.15)
    lost = rows.drop(rows[(rows.arm == "none") & (np.arange(N) % 8 == 0)].index).reset_index(drop=True)
    told = page(report(lost), tmp_path)
    assert "Not to be trusted" in told
    assert "not to be believed" in told
    assert "do not decide by these numbers" in told
    assert "between which the truth lies" not in told
    assert "Act:" not in told
    assert "Left out: nothing known before." in told


def test_offers_are_told_by_their_paired_interval(good: UpliftReport) -> None:
    [offers] = good.offers
    gain = offers.best_single
    assert gain is not None
    assert gain.against == "mail to all"

    def said(low: float, high: float) -> str:
        ends = Interval((low + high) / 2, low, high, 0.95)
        moved = replace(gain, gain=ends, of_all=ends)
        return replace(offers, found=replace(offers.found, gains=(moved,))).sentence

    assert "is worth +15 per 1,000" in said(0.01, 0.02)
    assert "not shown to beat" in said(-0.01, 0.02)
    assert "is worth less" in said(-0.02, -0.01)
    assert "cannot tell" in said(np.nan, np.nan)
    worse, wider = Interval(-0.01, -0.02, -0.001, 0.95), Interval(-0.01, -0.021, 0.001, 0.975)
    rule, perhaps = (replace(gain, against="a rule", gain=worse, of_all=of_all) for of_all in (worse, wider))
    level = Interval(0.0, -0.01, 0.01, 0.95)
    even = replace(gain, gain=level, of_all=level)
    both = replace(offers, found=replace(offers.found, gains=(even, rule)))
    assert "“a rule” does better: −10 per 1,000" in both.sentence
    assert "does better" not in replace(offers, found=replace(offers.found, gains=(even, perhaps))).sentence
    assert all(g.of_all.level == 0.975 and g.of_all.low < g.gain.low for g in offers.found.gains)


def test_numbers_are_as_exact_as_their_intervals() -> None:
    money = Unit("money", "EUR")
    assert money.change(Interval(0.7698, 0.48, 1.06, 0.95), times=1000) == "+770 EUR"
    assert money.ends(Interval(0.7698, 0.4812, 1.0584, 0.95), times=1000) == "+480 to +1,060"
    assert money.ends(Interval(0.59, 0.018, 1.15, 0.95)) == "+0.02 to +1.15"
    assert Unit("share").change(Interval(-0.0456, -0.05, -0.04, 0.95)) == "−4.6 points"
    assert money.change(Interval(np.nan, np.nan, np.nan, 0.95)) == "– EUR"


def test_small_amounts_are_capped_at_what_the_page_says(tmp_path: Path) -> None:
    rows = people(0.15)
    hours = np.where(rows.visit > 0, 0.001 * np.random.default_rng(0).integers(100, 400, N), 0.0)
    experiment = read_experiment(rows.assign(visit=hours), treatment="arm")
    analysis = analyse(experiment, [Metric("visit")])
    assert analysis.comparisons[0].cap <= 0.4
    found = replace(report(rows), analysis=analysis, units={"visit": Unit("amount")})
    cap = f"{analysis.comparisons[0].cap:.3g}"
    assert f"amounts above {cap} as {cap}" in page(found, tmp_path)


def test_a_period_that_one_arm_has_nobody_in_still_tells_all_so_far(tmp_path: Path) -> None:
    rows = people(0.15)
    rows["joined"] += pd.to_timedelta(np.where(rows.arm == "none", 0, 35), unit="D")  # the control came first
    rows.loc[::50, "joined"] = pd.Timestamp("2026-01-01")
    told = page(report(rows), tmp_path)
    row = told[told.index('<th scope="row">2026-02-12') :].partition("</tr>")[0]
    assert row.count(">–<") == 2
    assert "points" in row


def test_an_end_that_is_hardly_beyond_zero_shows_on_which_side() -> None:
    assert Unit("share").ends(Interval(-0.0189, -0.0378, -0.00003, 0.95), times=1000) == "−37.80 to −0.03"
    assert Unit("share").amount(0.00003, 0.06) == "0.003 points"


def test_another_suffix_is_refused(good: UpliftReport, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.pdf"):
        write(good, tmp_path / "uplift.pdf")
