"""Models hold no people: no id of anybody stands in what training leaves, so an erasure need not touch it."""

import shutil
import zipfile

import pandas as pd
import pytest
from typer.testing import CliRunner

from cli.main import app
from training.jobs import train

OF_PEOPLE = ("tables", "checked", "quarantine", "snapshots")
"""Folders that hold people, and are cleared of who is erased."""
WRITTEN_AS = ("utf-8", "utf-16-le", "utf-32-le")


def contents(path):
    """What a file holds, unpacked."""
    yield path.read_bytes()
    if zipfile.is_zipfile(path):  # npz too
        with zipfile.ZipFile(path) as packed:
            yield from (packed.read(name) for name in packed.namelist())
    if path.suffix == ".parquet":
        yield pd.read_parquet(path).to_csv().encode()


def naming(folder, part_of_an_id, *, leave_out=()):
    """Files in which an id begins."""
    signs = [part_of_an_id.encode(encoding) for encoding in WRITTEN_AS]
    files = [path for path in folder.rglob("*") if path.is_file()]
    inner = [path for path in files if path.relative_to(folder).parts[0] not in leave_out]
    assert inner
    return [path for path in inner if any(sign in held for held in contents(path) for sign in signs)]


@pytest.fixture(scope="module")
def trained(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "shop"
    shutil.copytree(shop.path, folder)
    workspace = type(shop)(folder)
    train(workspace, "recommender")
    train(workspace, "propensity", label="churn")
    train(workspace, "value")
    return workspace


def test_the_search_finds_people_where_they_are(trained):
    assert naming(trained.path / "checked", "person-")


def test_no_model_and_no_artifact_names_anybody(trained):
    cards = {card.parent.name for card in trained.path.rglob("card.json")}
    assert cards >= {"recommender", "propensity-churn", "value"}
    assert naming(trained.path, "person-", leave_out=OF_PEOPLE) == []


def test_what_mlflow_keeps_of_a_report_names_nobody(trained):
    words = ["report", "recommender", "--workspace", str(trained.path)]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    assert naming(trained.path / "reports", "person-")
    assert naming(trained.path, "person-", leave_out=(*OF_PEOPLE, "reports")) == []
