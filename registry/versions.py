"""Model versions in MLflow: register a folder, point an alias at it, fetch it, roll back."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow  # after the environment that it reads
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient

from data.errors import ModelFileError
from data.files import replacing
from data.workspace import Workspace
from registry.folder import seal, verify

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

logging.getLogger("mlflow").setLevel(logging.ERROR)
logging.getLogger("alembic").setLevel(logging.WARNING)

EXPERIMENT = "attune"
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"


@dataclass(frozen=True)
class Version:
    """One registered version of a model.

    Attributes:
        name: Registered model, for example `recommender` or `propensity-churn`.
        number: 1 for the first version.
        run_id: The MLflow run that made it.
        aliases: Which of champion, challenger and previous it is.
        tags: What was recorded with it.
    """

    name: str
    number: int
    run_id: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.name} {self.number}"


@dataclass(frozen=True)
class Registry:
    """Versions behind one MLflow tracking server or sqlite file. It never knows how a model computes.

    Attributes:
        uri: MLflow tracking URI.
        artifacts: Where artifacts of a sqlite registry go; None leaves it to the tracking server.
    """

    uri: str
    artifacts: Path | None = None

    @classmethod
    def of(cls, workspace: Workspace) -> Self:
        """The registry of a workspace: its own sqlite file unless the settings name a server."""
        own = not workspace.settings.registry.uri
        return cls(workspace.registry_uri, (workspace.path / "mlartifacts").resolve() if own else None)

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client."""
        return MlflowClient(self.uri, self.uri)

    @property
    def exists(self) -> bool:
        """Whether there is anything to read: asking must not create a database."""
        return not self.uri.startswith("sqlite:///") or Path(self.uri.removeprefix("sqlite:///")).exists()

    @contextmanager
    def tracking(self) -> Iterator[None]:
        """Within this block `mlflow`'s own functions write to this registry's experiment."""
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(self.uri)
        try:
            if self.client.get_experiment_by_name(EXPERIMENT) is None:
                self.client.create_experiment(EXPERIMENT, self.artifacts.as_uri() if self.artifacts else None)
            mlflow.set_experiment(EXPERIMENT)
            yield
        finally:
            mlflow.set_tracking_uri(before)

    def register(
        self,
        name: str,
        folder: Path,
        *,
        run_id: str,
        code: Path,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        pip_requirements: Sequence[str],
        signature: ModelSignature | None = None,
    ) -> Version:
        """Seal a folder, log it in the run and make it the next version of `name`.

        The version comes last and in one step: whatever stops before it leaves no version behind.

        Args:
            name: Registered model; made if it is new.
            folder: What the model saved, with `examples.json`.
            run_id: The run that it belongs to.
            code: The file that tells `mlflow.pyfunc.load_model` how to answer from the folder (models-from-code).
            metrics: Logged in the run and linked with the model.
            tags: Kept with the version.
            pip_requirements: What loading it elsewhere needs.
            signature: Of the pyfunc's input, output and parameters.
        """
        seal(folder)
        with self.tracking():
            open_run = mlflow.active_run()
            inside = open_run is not None and open_run.info.run_id == run_id
            with nullcontext() if inside else mlflow.start_run(run_id=run_id), warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # hints about input examples, which are in the folder
                logged = mlflow.pyfunc.log_model(
                    name=name,
                    python_model=str(code),
                    artifacts={"model": str(folder)},
                    pip_requirements=list(pip_requirements),
                    signature=signature,
                )
                mlflow.log_metrics(dict(metrics), model_id=logged.model_id)
            if name not in self.names():
                self.client.create_registered_model(name)
            made = self.client.create_model_version(
                name, logged.model_uri, run_id=run_id, tags=dict(tags), model_id=logged.model_id
            )
        return _version(made, {})

    def version(self, name: str, alias_or_number: str | int) -> Version | None:
        """The version that an alias points at, or of that number; None where there is none.

        Raises:
            ModelFileError: the alias points at a version that is gone.
        """
        if not self.exists:
            return None
        aliases = self._aliases(name)
        number = str(alias_or_number) if str(alias_or_number).isdigit() else aliases.get(str(alias_or_number))
        if number is None:
            return None
        try:
            return _version(self.client.get_model_version(name, number), aliases)
        except MlflowException as error:
            if str(alias_or_number) == number:
                return None
            raise ModelFileError(
                f"{name}@{alias_or_number} points at version {number}, which is gone. "
                f"Point it elsewhere with `attune promote {name}` or `attune rollback {name}`."
            ) from error

    def names(self) -> list[str]:
        """Every registered model, sorted."""
        return sorted(model.name for model in self.client.search_registered_models()) if self.exists else []

    def told(self) -> str:
        """Every registered model, for the error that one is not there."""
        return f"registered are {', '.join(self.names()) or 'no models'}"

    def versions(self, name: str) -> list[Version]:
        """Every version of a model, the newest first."""
        if not self.exists:
            return []
        aliases = self._aliases(name)
        found = self.client.search_model_versions(f"name = '{name}'")
        return sorted((_version(made, aliases) for made in found), key=lambda version: -version.number)

    def _aliases(self, name: str) -> Mapping[str, str]:
        """Number of the version behind each alias of a registered model."""
        found = self.client.search_registered_models(f"name = '{name}'")
        return {alias: str(number) for model in found for alias, number in model.aliases.items()}

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """Point an alias at a version."""
        self.client.set_registered_model_alias(name, alias, str(number))

    def tag(self, version: Version, key: str, value: str) -> None:
        """Record something about a version."""
        self.client.set_model_version_tag(version.name, str(version.number), key, value)

    def crown(self, version: Version) -> None:
        """Make a version the champion; the champion until now becomes `previous`."""
        champion = self.version(version.name, CHAMPION)
        if champion is not None and champion.number != version.number:
            self.set_alias(version.name, PREVIOUS, champion.number)
        self.set_alias(version.name, CHAMPION, version.number)
        challenger = self.version(version.name, CHALLENGER)
        if challenger is not None and challenger.number == version.number:
            self.client.delete_registered_model_alias(version.name, CHALLENGER)

    def rollback(self, name: str) -> Version:
        """Make `previous` the champion again and the champion `previous`; returns the champion.

        Raises:
            ModelFileError: there is no previous version.
        """
        previous = self.version(name, PREVIOUS)
        if previous is None:
            raise ModelFileError(
                f"{name} has no previous champion to roll back to; {self.told()}. "
                "`attune promote` keeps one when it replaces one."
            )
        self.crown(previous)
        return self.version(name, CHAMPION) or previous

    def champion(self, name: str, into: Path) -> tuple[Version, Path] | None:
        """The champion and its folder, fetched and verified; None where there is none.

        Raises:
            ModelFileError: as `fetch`.
        """
        version = self.version(name, CHAMPION)
        return None if version is None else (version, self.fetch(version, into))

    def fetch(self, version: Version, into: Path) -> Path:
        """The version's folder at `into/NAME/NUMBER-RUN`, downloaded once, whole and verified.

        The run is named because another registry gives the same numbers.

        Raises:
            ModelFileError: the registry's files are missing, truncated or changed.
        """
        target = into / version.name / f"{version.number}-{version.run_id[:8]}"
        if target.is_dir():
            try:
                return verify(target)
            except ModelFileError:
                pass  # a damaged copy is replaced by a fresh one; a damaged original is reported below
        with replacing(target) as beside:
            verify(self._download(version, beside.with_name("download")).rename(beside))
        return target

    def _download(self, version: Version, scratch: Path) -> Path:
        scratch.mkdir()
        try:
            source = self.client.get_model_version_download_uri(version.name, str(version.number))
            repository = get_artifact_repository(source, tracking_uri=self.uri, registry_uri=self.uri)
            (folder,) = repository.list_artifacts("artifacts")
            return Path(repository.download_artifacts(folder.path, dst_path=str(scratch)))
        except (MlflowException, OSError, ValueError) as error:
            raise ModelFileError(
                f"{version}: its files cannot be fetched from {self.uri}: {error}. Train anew with `attune train`."
            ) from error


def _version(made: ModelVersion, aliases: Mapping[str, str]) -> Version:
    number = str(made.version)
    return Version(
        name=made.name,
        number=int(number),
        run_id=made.run_id or "",
        aliases=tuple(sorted(alias for alias, pointed in aliases.items() if pointed == number)),
        tags=dict(made.tags),
    )
