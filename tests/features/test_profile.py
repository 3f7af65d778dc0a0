"""Attributes as of the cutoff, form answers, and what is refused as sensitive."""

from __future__ import annotations

import pandas as pd
import pytest

from data.errors import WorkspaceError
from data.settings import Features
from data.tables import Tables
from features.snapshots import feature_names, snapshot


@pytest.fixture
def users(ago):
    return pd.DataFrame({
        "user_id": ["ann", "ann", "ann", "bob"],
        "updated_at": [ago(90), ago(10), ago(-10), pd.NaT],
        "created_at": [ago(100), ago(100), ago(100), ago(7)],
        "country": ["DE", "AT", "FR", "DE"],
        "shoe_size": [40, 41, 42, 43],
        "age": [30, 30, 31, 50],
    })  # fmt: skip


def test_attributes_are_those_known_last_before_the_cutoff(users, cutoff):
    settings = Features(attributes=("shoe_size",))
    columns = ["tenure_days", "country", "shoe_size"]
    found = snapshot(Tables.from_frames(users=users), cutoff, settings, columns=columns).execute().set_index("user_id")
    assert found.loc["ann"].tolist() == [100.0, "AT", 41.0]
    assert found.loc["bob"].tolist() == [7.0, "DE", 43.0]


def test_an_attribute_that_no_setting_names_is_no_feature(users):
    names = feature_names(Tables.from_frames(users=users), Features())
    assert "shoe_size" not in names
    assert "age" not in names


@pytest.mark.parametrize("name", ["age", "customer_gender", "Religion", "customerAge", "the_date_of_birth"])
def test_a_sensitive_attribute_needs_a_reason(users, name, cutoff):
    tables = Tables.from_frames(users=users.rename(columns={"age": name}))
    with pytest.raises(WorkspaceError, match=f"features.attributes: '{name}' is sensitive"):
        snapshot(tables, cutoff, Features(attributes=(name,)))
    with pytest.raises(WorkspaceError, match="is sensitive"):
        snapshot(tables, cutoff, Features(attributes=(name,), sensitive_reasons={name: " "}))
    allowed = Features(attributes=(name,), sensitive_reasons={name: "the law asks for it on the shelf of spirits"})
    assert name in snapshot(tables, cutoff, allowed).columns


@pytest.mark.parametrize("name", ["page_theme", "passage", "language", "storage_gb"])
def test_a_word_that_only_contains_a_sensitive_one_is_allowed(users, name, cutoff):
    tables = Tables.from_frames(users=users.rename(columns={"age": name}))
    assert name in snapshot(tables, cutoff, Features(attributes=(name,))).columns


def test_the_latest_form_answer_counts(events, cutoff):
    rows = events(
        ("ann", "form_submitted", 9, {"skin": "dry"}),
        ("ann", "form_submitted", 5, {"skin": "oily"}),
        ("ann", "form_submitted", 3, {"skin": None}),
        ("ann", "page_viewed", 2, {"skin": "no answer"}),
        ("bob", "page_viewed", 2, {"skin": None}),
    )
    found = snapshot(Tables.from_frames(events=rows), cutoff, Features(form_answers=("skin",)), columns=["answer_skin"])
    found = found.execute().set_index("user_id")["answer_skin"]
    assert found["ann"] == "oily"
    assert pd.isna(found["bob"])


def test_an_attribute_of_another_kind_is_refused(users, cutoff):
    tables = Tables.from_frames(users=users.assign(tags=[["a"]] * 4))
    with pytest.raises(WorkspaceError, match="'tags' is of type array"):
        snapshot(tables, cutoff, Features(attributes=("tags",)))
