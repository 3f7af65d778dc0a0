"""Versions: whole or not there, found by alias, fetched once, rolled back."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from data.errors import ModelFileError
from registry.folder import CHECKSUMS, seal, verify
from registry.versions import CHALLENGER, CHAMPION, PREVIOUS, Registry, Version

CODE = '''
"""A model that counts."""
from pathlib import Path

import mlflow
import pandas as pd


class Counts(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.start = int((Path(context.artifacts["model"]) / "start.txt").read_text())

    def predict(self, context, model_input: pd.DataFrame, params=None):
        return model_input["x"] + self.start


mlflow.models.set_model(Counts())
'''


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("registry")
    return Registry(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts")


def a_folder(at: Path, start: int = 5) -> Path:
    at.mkdir(parents=True)
    (at / "start.txt").write_text(str(start))
    (at / "examples.json").write_text(json.dumps({"rows": [{"x": 1}], "expected": [1 + start]}))
    return at


def a_version(registry: Registry, tmp_path: Path, name: str, start: int = 5) -> Version:
    code = tmp_path / "code.py"
    code.write_text(CODE)
    with registry.tracking(), mlflow.start_run() as run:
        pass
    return registry.register(
        name,
        a_folder(tmp_path / f"{name}-{start}", start),
        run_id=run.info.run_id,
        code=code,
        metrics={"ndcg_at_10": 0.5},
        tags={"seed": "0"},
        pip_requirements=["pandas"],
    )


def test_asking_an_empty_registry_creates_nothing(tmp_path: Path) -> None:
    registry = Registry(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert registry.version("recommender", CHAMPION) is None
    assert registry.versions("recommender") == []
    assert registry.names() == []
    assert not (tmp_path / "mlflow.db").exists()


def test_a_version_is_found_by_number_and_alias_and_loads_with_plain_mlflow(registry: Registry, tmp_path: Path) -> None:
    version = a_version(registry, tmp_path, "plain")
    registry.set_alias("plain", CHALLENGER, version.number)
    found = registry.version("plain", CHALLENGER)
    assert found is not None
    assert (found.number, found.aliases, found.tags["seed"]) == (1, (CHALLENGER,), "0")
    assert registry.version("plain", 1) == found
    assert registry.version("plain", 7) is None
    assert registry.version("plain", CHAMPION) is None
    assert registry.version("nobody", CHAMPION) is None
    assert registry.client.get_run(version.run_id).data.metrics["ndcg_at_10"] == 0.5
    with registry.tracking():
        model = mlflow.pyfunc.load_model("models:/plain@challenger")
    assert model.predict(pd.DataFrame({"x": [1, 2]})).tolist() == [6, 7]


def test_a_new_champion_keeps_the_old_one_as_previous_and_a_rollback_swaps_them(
    registry: Registry, tmp_path: Path
) -> None:
    first, second = a_version(registry, tmp_path, "swap", 1), a_version(registry, tmp_path, "swap", 2)
    with pytest.raises(ModelFileError, match=r"no previous champion.*; registered are "):
        registry.rollback("swap")
    registry.crown(first)
    registry.set_alias("swap", CHALLENGER, second.number)
    registry.crown(second)
    assert {version.number: version.aliases for version in registry.versions("swap")} == {
        1: (PREVIOUS,),
        2: (CHAMPION,),
    }
    assert registry.rollback("swap").number == 1
    assert {version.number: version.aliases for version in registry.versions("swap")} == {
        1: (CHAMPION,),
        2: (PREVIOUS,),
    }


def test_fetching_copies_once_and_mends_a_damaged_copy(registry: Registry, tmp_path: Path) -> None:
    version = a_version(registry, tmp_path, "fetched")
    folder = registry.fetch(version, tmp_path / "models")
    assert folder == tmp_path / "models" / "fetched" / f"1-{version.run_id[:8]}"
    assert (folder / "start.txt").read_text() == "5"
    stamp = (folder / "start.txt").stat().st_mtime_ns
    assert registry.fetch(version, tmp_path / "models") == folder
    assert (folder / "start.txt").stat().st_mtime_ns == stamp
    (folder / "start.txt").write_text("")
    assert (registry.fetch(version, tmp_path / "models") / "start.txt").read_text() == "5"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_another_registry_s_version_of_the_same_number_is_another_one(registry: Registry, tmp_path: Path) -> None:
    another = Registry(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts")
    for start, asked in enumerate((registry, another)):
        folder = asked.fetch(a_version(asked, tmp_path, "twice", start), tmp_path / "models")
        assert (folder / "start.txt").read_text() == str(start)


def test_a_truncated_file_in_the_registry_is_named_and_leaves_nothing(registry: Registry, tmp_path: Path) -> None:
    version = a_version(registry, tmp_path, "truncated")
    stored = next(
        path for path in (registry.artifacts or tmp_path).rglob("start.txt") if path.parent.name == "truncated-5"
    )
    stored.write_text("")
    with pytest.raises(ModelFileError, match=r"start\.txt is truncated or changed"):
        registry.fetch(version, tmp_path / "models")
    assert not any((tmp_path / "models" / "truncated").glob("*"))


def test_files_that_are_gone_are_reported_with_the_remedy(registry: Registry, tmp_path: Path) -> None:
    version = a_version(registry, tmp_path, "gone")
    stored = next(path for path in (registry.artifacts or tmp_path).rglob("gone-5"))
    stored.rename(tmp_path / "elsewhere")
    with pytest.raises(ModelFileError, match=r"cannot be fetched.*attune train"):
        registry.fetch(version, tmp_path / "models")


def test_an_alias_that_points_nowhere_is_named_with_the_remedy(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.crown(a_version(registry, tmp_path, "dangling"))
    monkeypatch.setattr(Registry, "_aliases", lambda *_: {CHAMPION: "99"})
    with pytest.raises(ModelFileError, match=r"dangling@champion points at version 99, which is gone.*attune promote"):
        registry.version("dangling", CHAMPION)


def test_deleting_a_version_takes_its_aliases_along(registry: Registry, tmp_path: Path) -> None:
    version = a_version(registry, tmp_path, "deleted")
    registry.crown(version)
    registry.client.delete_model_version("deleted", str(version.number))
    assert registry.version("deleted", CHAMPION) is None


def test_registering_that_stops_half_way_leaves_no_version(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_version(registry, tmp_path, "half", 1)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mlflow, "log_metrics", stop)
    with pytest.raises(KeyboardInterrupt):
        a_version(registry, tmp_path, "half", 2)
    assert [version.number for version in registry.versions("half")] == [1]


def test_a_seal_tells_missing_changed_and_added_files(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "model")
    seal(folder)
    assert verify(folder) == folder
    (folder / "more.txt").write_text("")
    with pytest.raises(ModelFileError, match=r"more\.txt does not belong"):
        verify(folder)
    (folder / "more.txt").unlink()
    (folder / "start.txt").write_text("6")
    with pytest.raises(ModelFileError, match=r"start\.txt is truncated or changed"):
        verify(folder)
    (folder / "start.txt").unlink()
    with pytest.raises(ModelFileError, match=r"start\.txt is missing"):
        verify(folder)
    (folder / CHECKSUMS).write_text("{")
    with pytest.raises(ModelFileError, match=r"checksums\.json cannot be read"):
        verify(folder)


def test_a_pickle_is_never_sealed(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "model")
    (folder / "model.pkl").write_bytes(b"")
    with pytest.raises(ModelFileError, match="pickle"):
        seal(folder)
