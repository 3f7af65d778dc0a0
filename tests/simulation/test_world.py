"""A world is read whole or refused with the place and the remedy."""

from __future__ import annotations

import re

import pytest

from data.errors import DataError
from simulation.world import DEFAULT, World


def test_a_file_changes_only_what_it_names(tmp_path):
    file = tmp_path / "world.toml"
    file.write_text("[catalogue]\nitems = 40\n")
    world = World.load(file)
    assert world.catalogue.items == 40
    assert world.visits == World.load().visits


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[catalogue]\nitmes = 40\n", "itmes"),
        ("[catalogue]\nitems = -1\n", "catalogue.items"),
        ("[orders]\nreturn_share = 1.5\n", "orders.return_share"),
        ("[people]\ntier_shares = [1.0]\n", "tier_shares"),
        ("[experiment]\nwindow_days = 99\n", "window_days"),
        ("[experiment]\nrandom_share = 0.7\nholdout_share = 0.5\n", "above 1 together"),
        ("offers = []\n", "offers: "),
        ("[people", "not valid TOML"),
    ],
)
def test_a_world_that_makes_no_sense_is_refused_by_name(tmp_path, text, said):
    file = tmp_path / "world.toml"
    file.write_text(text)
    with pytest.raises(DataError, match=re.escape(said)):
        World.load(file)


def test_an_offer_that_is_wrong_is_not_said_to_be_missing(tmp_path):
    file = tmp_path / "world.toml"
    file.write_text('[[offers]]\nname = "ten"\n')
    with pytest.raises(DataError, match=r"offers\.0\.kind") as refused:
        World.load(file)
    assert "at least 1 item" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.toml"):
        World.load(tmp_path / "nowhere.toml")


def test_every_parameter_of_the_default_world_is_explained():
    for line in DEFAULT.read_text().splitlines():
        if re.match(r"[a-z_]+ = [\d.\-]+\s*$", line) and not line.startswith(
            ("value", "cost", "min_spend", "lift", "annoyance")
        ):
            raise AssertionError(f"{line!r} has no comment")
