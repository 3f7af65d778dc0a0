"""Files are whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.files import replacing


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
