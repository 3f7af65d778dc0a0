"""Files are whole or not there, and rows are read from whatever holds them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from data.errors import DataError
from data.files import read_rows, replacing


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_the_place_of_another_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"
    with replacing(target) as beside:
        beside.write_text("old")
    with replacing(target) as beside:
        beside.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert names(target.parent) == ["a.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fill() -> None:
        with replacing(target) as beside:
            beside.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fill()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for name in ("first", "second"):
        with replacing(target) as beside:
            beside.mkdir()
            (beside / name).write_text(name)
        assert names(target) == [name]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_writing_nothing_loses_nothing(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "kept"
    target.write_text("old") if kind == "file" else target.mkdir()
    with pytest.raises(FileNotFoundError, match="nothing was written"), replacing(target):
        pass
    assert names(tmp_path) == ["kept"]


@pytest.mark.parametrize("typed", [True, False])
def test_csv_and_parquet_are_read_alike(tmp_path: Path, typed: bool) -> None:
    table = pd.DataFrame(
        {"churn": ["gone", "here"] * 20, "spend": ["1.5", "n/a"] * 20, "plan; or not": ["a", "b"] * 20}
    )
    table.to_parquet(tmp_path / "a.parquet")
    table.set_index(table.index * 2).to_parquet(tmp_path / "a.pq")  # which pandas writes as a column
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_csv(tmp_path / "semicolon.csv", sep=";", index=False)
    table.to_csv(tmp_path / "a.csv.gz", index=False)
    table.to_csv(tmp_path / "tabs.txt", sep="\t", index=False)
    for name in ("a.parquet", "a.pq", "a.csv", "semicolon.csv", "a.csv.gz", "tabs.txt"):
        read = read_rows(tmp_path / name, ["churn"], typed=typed)
        assert read.columns.tolist() == table.columns.tolist()
        assert read["churn"].tolist() == table["churn"].tolist()


def test_a_csv_may_have_any_separator_and_a_word_none(tmp_path: Path) -> None:
    file = tmp_path / "mail.csv"
    file.write_text("arm;Did visit?;age\nNone;1;30.5\nmail;0;NA\nNone;;41\n", encoding="utf-8")
    rows = read_rows(file)
    assert rows["arm"].tolist() == ["None", "mail", "None"]
    assert rows["age"].isna().tolist() == [False, True, False]
    assert rows["Did visit?"].sum() == 1
    assert read_rows(file, typed=False)["age"].tolist() == ["30.5", "NA", "41"]


def test_ids_of_twenty_digits_stay_apart(tmp_path: Path) -> None:
    file = tmp_path / "mail.csv"
    file.write_text("who,spend\n12345678901234567890,1.5\n12345678901234567891,inf\n,2\n", encoding="utf-8")
    rows = read_rows(file)
    assert rows["who"].dropna().tolist() == ["12345678901234567890", "12345678901234567891"]
    assert rows["spend"].tolist() == [1.5, float("inf"), 2.0]


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    for name in ("mail.xlsx", "none.csv"):
        with pytest.raises(DataError, match=f"{name} is no file"):
            read_rows(tmp_path / name)
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"torn\.parquet cannot be read"):
        read_rows(tmp_path / "torn.parquet")
    (tmp_path / "mail.xlsx").write_bytes(b"PK\x03\x04\x14\x00\x00\xff\xfe\x00\x9c" * 50)
    with pytest.raises(DataError, match=r"mail\.xlsx cannot be read"):
        read_rows(tmp_path / "mail.xlsx")
    (tmp_path / "void.csv").touch()
    with pytest.raises(DataError, match=r"void\.csv is empty"):
        read_rows(tmp_path / "void.csv")
    (tmp_path / "empty.csv").write_text("a,b\n")
    with pytest.raises(DataError, match="has no rows"):
        read_rows(tmp_path / "empty.csv")
    with pytest.raises(DataError, match="no column 'c'; it has a, b"):
        read_rows(tmp_path / "empty.csv", ["c"])
    assert read_rows(tmp_path / "empty.csv", ["a"], empty=True).empty
