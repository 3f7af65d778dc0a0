"""Settings: defaults, then the file, then the environment; what is not known is refused with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.errors import WorkspaceError
from data.settings import Settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "attune.toml"


def load(file: Path, text: str) -> Settings:
    file.write_text(text, encoding="utf-8")
    return Settings.load(file)


def test_without_a_file_everything_has_a_default(file: Path) -> None:
    assert Settings.load(file) == Settings()


def test_the_file_overrides_defaults_and_the_environment_both(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_DATA__MAX_BAD_SHARE", "0.2")
    monkeypatch.setenv("ATTUNE_WORKSPACE", "/srv/shop")
    data = load(file, "[data]\nmax_bad_share = 0.1\nmax_age_days = 3\n").data
    assert (data.max_bad_share, data.max_age_days, data.max_clock_skew_minutes) == (0.2, 3.0, 60.0)


@pytest.mark.parametrize("text", ["", "[propensity.churn]\nhorizon_days = 30\n"])
def test_the_environment_changes_or_joins_what_is_there_without_being_written(
    file: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    shipped = Settings()
    monkeypatch.setenv("ATTUNE_PROPENSITY__CHURN__HORIZON_DAYS", "60")
    monkeypatch.setenv("ATTUNE_PROPENSITY__TEA__EVENT", "order in tea")
    monkeypatch.setenv("ATTUNE_ACTIONS__WELCOME__ENABLED", "false")
    settings = load(file, text)
    assert (settings.propensity["churn"].event, settings.propensity["churn"].horizon_days) == ("no order", 60)
    assert set(settings.propensity) == {"churn", "click", "purchase", "tea"}
    assert {name for name, action in settings.actions.items() if not action.enabled} == {"welcome"}
    assert set(settings.actions) == set(shipped.actions)


def test_a_byte_order_mark_is_no_error(file: Path) -> None:
    assert load(file, '\ufeff[shop]\nname = "tea"\n').shop.name == "tea"


def test_a_named_label_changes_or_joins_the_default_ones(file: Path) -> None:
    labels = load(file, '[propensity.churn]\nhorizon_days = 30\n[propensity.tea]\nevent = "order in tea"\n').propensity
    assert (labels["churn"].event, labels["churn"].horizon_days) == ("no order", 30)
    assert set(labels) == {"churn", "click", "purchase", "tea"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[data]\nmax_bad_shar = 0.1", "data.max_bad_shar: no such setting"),
        ("[dat]\n", "dat: no such setting"),
        ("[data]\nmax_bad_share = 2", r"data.max_bad_share.*got 2\)"),
        ("[data]\nmax_age_days = nan", "data.max_age_days"),
        ("[data]\nmax_clock_skew_minutes = -1", "data.max_clock_skew_minutes"),
        ("[shop]\ncurrency = 'euro'", "shop.currency.*got 'euro'"),
        ("propensity = 3", "propensity"),
        ("[propensity]\nchurn = 3", "propensity.churn"),
        ("[propensity.tea]\n", "propensity.tea.event"),
        ('[propensity.value]\nevent = "order"', r"propensity\.value.*'value' is the name of another model.*otherwise"),
        ('[propensity.send-time]\nevent = "open"', r"'send-time' is the name of another model"),
        ("[data", "not valid TOML.*Mend that line"),
    ],
)
def test_what_is_not_known_is_refused_with_its_place(file: Path, text: str, message: str) -> None:
    with pytest.raises(WorkspaceError, match=message):
        load(file, text)


def test_a_file_that_is_no_text_is_refused(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(WorkspaceError, match="not valid TOML"):
        Settings.load(file)


def test_an_environment_variable_of_a_whole_section_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_DATA", "junk")
    with pytest.raises(WorkspaceError, match="ATTUNE_DATA__MAX_BAD_SHARE"):
        Settings.load(file)


def test_a_misspelt_secret_is_not_repeated(file: Path) -> None:
    with pytest.raises(WorkspaceError) as raised:
        load(file, '[state]\nurll = "postgresql://shop:hunter2@db/shop"')
    assert "hunter2" not in str(raised.value)
