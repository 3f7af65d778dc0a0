"""The day's list of a simulated shop: who may not be written to is not in it, and nobody is twice."""

from __future__ import annotations

import os
import re
import shutil
from datetime import timedelta

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli.main import app
from data.checks import check
from data.errors import WorkspaceError
from data.workspace import Workspace
from features.snapshots import build, span
from serving.engine import Engine
from serving.sendlist import write_list
from simulation.shop import simulate

USERS, DAYS = 300, 100


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Workspace:
    """A shop that was checked, and whose features are built."""
    path = tmp_path_factory.mktemp("simulated")
    simulate(path, users=USERS, days=DAYS, seed=3)
    settings = path / "attune.toml"  # whose salt is drawn anew, and with some of them nobody due is in the holdout
    settings.write_text(re.sub('salt = ".*"', 'salt = "attune"', settings.read_text()))
    workspace = Workspace(path)
    check(workspace)
    build(workspace, [span(workspace.checked).end])
    return workspace


@pytest.fixture(scope="module")
def listed(shop):
    """What the command says at the end of the data, and the rows of its list."""
    to = shop.path / "today.parquet"
    options = ["--actions", "--at", f"{span(shop.checked).end:%Y-%m-%d}", "--to", str(to)]
    found = CliRunner().invoke(app, ["score", *options, "--workspace", str(shop.path)])
    assert found.exit_code == 0, found.output
    return found.output, pq.read_table(to).to_pylist()


@pytest.mark.slow
def test_most_people_of_the_simulated_shop_say_yes_to_email_when_they_sign_up(shop):
    consents = shop.checked["consents"]
    said = consents.filter(consents.purpose == "email").granted.mean().execute()
    assert 0.7 < said < 0.9


@pytest.mark.slow
def test_several_triggers_find_their_people_and_the_command_tells_of_them(listed):
    told, rows = listed
    assert len(rows) > 10
    assert len({row["trigger"] for row in rows}) >= 4
    assert f"{len(rows):,} messages for" in told
    assert all(rule in told for rule in ("consent", "holdout", "recent_purchase"))
    assert "Their decisions are stored" in told


@pytest.mark.slow
def test_nobody_is_written_to_twice_or_against_their_no(shop, listed):
    _, rows = listed
    assert len({row["user_id"] for row in rows}) == len(rows)
    assert len({row["decision_id"] for row in rows}) == len(rows)
    said = shop.checked["consents"].execute().sort_values("at").drop_duplicates(["user_id", "purpose"], keep="last")
    allowed = set(said.loc[said["granted"], ["user_id", "purpose"]].itertuples(index=False, name=None))
    assert all((row["user_id"], row["channel"]) in allowed for row in rows)
    assert all((row["user_id"], "marketing") in allowed for row in rows)


@pytest.mark.slow
def test_who_just_bought_hears_of_their_order_only(shop, listed):
    _, rows = listed
    end = span(shop.checked).end
    orders = shop.checked["orders"].execute()
    orders = orders[(orders["quantity"] > 0) & (orders["occurred_at"] > end - timedelta(days=7))]
    just = set(orders["user_id"].dropna())
    about = [row["trigger"] for row in rows if row["user_id"] in just]
    assert set(about) == {"after_purchase"}


@pytest.mark.slow
def test_a_day_later_the_list_has_others_or_later_steps(shop, listed):
    _, rows = listed
    to = shop.path / "tomorrow.parquet"
    write_list(shop, to, now=span(shop.checked).end + timedelta(days=1, hours=1), dry_run=True)
    tomorrow = pq.read_table(to).to_pylist()
    assert tomorrow
    assert not {row["decision_id"] for row in tomorrow} & {row["decision_id"] for row in rows}
    today = {row["user_id"]: row for row in rows}
    for row in tomorrow:
        before = today.get(row["user_id"])
        if before is not None and before["trigger"] == row["trigger"]:
            assert row["step"] > before["step"] or row["about"] != before["about"]


@pytest.mark.slow
def test_what_was_sent_before_an_earlier_moment_counts_then(shop):
    at = span(shop.checked).end - timedelta(days=10)
    engine = Engine(shop)
    engine.load(at=at)
    sent = [person.sent for person in engine.people.of(engine.profiles.everybody, now=at)]
    assert sum(moment < at for by_channel in sent for times in by_channel.values() for moment in times) > 50
    engine.state.close()


@pytest.mark.slow
def test_tables_that_changed_since_they_were_checked_are_told(shop, tmp_path):
    copy = shutil.copytree(shop.path, tmp_path / "shop")
    options = ["--actions", "--dry-run", "--to", str(tmp_path / "a.csv"), "--workspace", str(copy)]
    for changed in (False, True):
        stamp = copy / "checked" / "fingerprint.txt"
        os.utime(stamp, (0, 0) if changed else None)
        found = CliRunner().invoke(app, ["score", *options])
        assert found.exit_code == 0, found.output
        assert ("changed since they were checked" in found.output) == changed


@pytest.mark.slow
def test_asked_one_by_one_people_are_told_the_same_as_together(shop):
    engine, end = Engine(shop), span(shop.checked).end
    engine.load()
    ids = engine.profiles.everybody[:60]
    together = engine.act(ids, now=end)
    alone = [engine.act([user_id], now=end)[0] for user_id in ids]
    for one, other in zip(together, alone, strict=True):
        assert (one.action and one.action.decision_id) == (other.action and other.action.decision_id)
        assert (one.held_back, one.waiting) == (other.held_back, other.waiting)
    engine.state.close()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--actions", "--where", "churn > 0.5"], "--where is of scores"),
        (["--channel", "email"], "--channel goes with --actions"),
        (["--dry-run"], "--dry-run goes with --actions"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, options, told):
    found = CliRunner().invoke(app, ["score", *options, "--to", str(tmp_path / "a.csv"), "--workspace", str(tmp_path)])
    assert isinstance(found.exception, WorkspaceError)
    assert told in str(found.exception)
