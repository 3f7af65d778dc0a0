"""Bulk scoring: everybody once, as serving would score them; a bad expression is told with its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cli.main import app
from data.errors import DataError, WorkspaceError
from data.workspace import Workspace
from training.scoring import Bulk, audience_of, label_champions, score


def attune(workspace: Workspace, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*words, "--workspace", str(workspace.path)], catch_exceptions=False)
    return done.exit_code, done.output


def test_everybody_is_scored_once_and_nobody_outside_of_the_population(
    shop_with_churn: Workspace, tmp_path: Path
) -> None:
    found = score(shop_with_churn, tmp_path / "all.parquet")
    frame = pd.read_parquet(found.path)
    assert list(frame) == ["user_id", "churn", "lifecycle", "frequent"]
    assert (found.rows, found.everybody) == (len(frame), frame.user_id.nunique())
    bulk = Bulk.of(shop_with_churn)
    features = bulk.snapshot.frame().set_index("user_id").loc[frame.user_id].reset_index()
    champion = label_champions(shop_with_churn)["churn"]
    inside = champion.population.mask(features)
    assert (frame.churn.notna() == inside).all()
    np.testing.assert_allclose(frame.churn[inside], champion.model.predict(features[inside]))
    assert found.expected["churn"] == pytest.approx(frame.churn.sum())


def test_where_reads_scores_features_stages_and_segments_and_csv_says_the_same(
    shop_with_churn: Workspace, tmp_path: Path
) -> None:
    where = "churn > .3 and orders_life > 2 and lifecycle != 'loyal' or frequent"
    score(shop_with_churn, tmp_path / "a.parquet", where=where)
    code, said = attune(shop_with_churn, "score", "--where", where, "--to", str(tmp_path / "a.csv"))
    assert code == 0
    frame = pd.read_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(frame, pd.read_csv(tmp_path / "a.csv", dtype={"user_id": "str"}))
    assert f"{len(frame)} of 240 people" in said
    assert (frame.frequent | ((frame.churn > 0.3) & (frame.lifecycle != "loyal"))).all()
    assert 0 < len(frame) < 240


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("churn >", r"--where: 'churn >' cannot be read at column 8"),
        ("churm > .5", r"--where: 'churm' is no column \(column 1\); did you mean 'churn'"),
        ("zzz > .5", r"'zzz' is no column.*There are churn, lifecycle, frequent, and the features of docs/features.md"),
        ("sent_90d > 0", r"--where: 'sent_90d' needs messages, which this shop did not bring"),
        ("churn > 'a lot'", "cannot be compared"),
        ("purchase > .5", "'purchase' has no champion.*attune train propensity --label purchase"),
        ("__import__('os')", "is not allowed"),
    ],
)
def test_an_expression_that_cannot_be_used_is_told_with_its_place_and_leaves_no_file(
    shop_with_churn: Workspace, tmp_path: Path, where: str, message: str
) -> None:
    with pytest.raises((WorkspaceError, DataError), match=message):
        score(shop_with_churn, tmp_path / "a.csv", where=where)
    assert not list(tmp_path.iterdir())


def test_a_segment_of_what_the_shop_did_not_bring_is_told_by_what_it_needs(
    shop_with_churn: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTUNE_SEGMENTS__WRITTEN_TO", "sent_90d > 0")
    with pytest.raises(
        WorkspaceError, match=r"segments.written_to: 'sent_90d' needs messages, which this shop did not"
    ):
        score(Workspace.open(shop_with_churn.path), tmp_path / "a.csv")


def test_other_files_labels_and_names_that_mean_two_things_are_refused(
    shop_with_churn: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WorkspaceError, match=r"end it on \.parquet or \.csv"):
        score(shop_with_churn, tmp_path / "a.xlsx")
    with pytest.raises(WorkspaceError, match=r"'tea' is no label.*churn"):
        score(shop_with_churn, tmp_path / "a.csv", labels=["tea"])
    monkeypatch.setenv("ATTUNE_SEGMENTS__CHURN", "orders_life > 2")
    with pytest.raises(WorkspaceError, match="'churn' is the name of two things"):
        score(Workspace(shop_with_churn.path), tmp_path / "a.csv")


def test_the_audience_is_described_beside_everybody(shop_with_churn: Workspace, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code, said = attune(shop_with_churn, "report", "audience", "--where", "churn > .5", "--to", str(page))
    found = audience_of(shop_with_churn, where="churn > .5")
    [churn] = found.outcomes
    assert code == 0
    assert f"{found.size} of 240 people" in said
    assert page.is_file()
    assert churn.inside.people == found.size
    assert churn.inside.share.estimate > 0.5 > churn.everybody.share.estimate
    assert churn.times > 1
    assert {reason.label for reason in found.reasons} == {"churn"}
    assert found.reasons[0].odds > 1  # it was chosen for its churn
    assert found.reach == ()  # the shop tells neither channels nor consents
    assert not audience_of(shop_with_churn, where="True").reasons  # everybody is not apart from everybody
