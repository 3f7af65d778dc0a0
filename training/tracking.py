"""What a training run leaves in MLflow: a parent run with its children, and what it was made from."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from pydantic import TypeAdapter

from data.workspace import Workspace
from evaluation.intervals import Interval
from registry.versions import CHALLENGER, Registry, Version
from training.gate import Verdict
from training.pages import page
from training.results import Comparison, InDetail, TrainingResult, flat

COMPARISON, PAGE = "comparison.json", "comparison.html"
FINGERPRINT = "data_fingerprint"
"""Tag of a run and a version: which state of the tables it was made from."""
NO_METRIC_NAME, MOST_OF_A_NAME, MOST_OF_A_PARAM = re.compile(r"[^\w./-]+"), 240, 500
"""What MLflow takes no names with, and how long they may be."""
GATE, GATE_PAGE = "gate", "gate.html"
"""Tag of a version, and page of its run: what the gate said when it was last asked."""


@dataclass(frozen=True)
class Training:
    """A training under way, its run open.

    Attributes:
        workspace: Whose.
        name: Registered model.
        run_id: Of the run.
        folder: Where the version is to be written, with its `examples.json`; nothing is there yet.
    """

    workspace: Workspace
    name: str
    run_id: str
    folder: Path

    def challenger(self, test: Comparison, *, chosen: str, **kept: Any) -> TrainingResult:
        """Make the folder the challenger, fitted as `chosen`, judged by `test`; `register_challenger` has the rest."""
        judged = flat(test.rows[0].metrics)
        version = register_challenger(
            self.workspace, self.name, self.folder, run_id=self.run_id, metrics=judged, **kept
        )
        return TrainingResult(version, chosen, test)


@contextmanager
def training(workspace: Workspace, name: str, *, seed: int, params: Mapping[str, Any]) -> Iterator[Training]:
    """Open the run of a training (`parent_run`), with a folder for what it makes."""
    with parent_run(workspace, name, seed=seed, params=params) as run_id, tempfile.TemporaryDirectory() as scratch:
        yield Training(workspace, name, run_id, Path(scratch) / name)


@contextmanager
def parent_run(workspace: Workspace, name: str, *, seed: int, params: Mapping[str, Any]) -> Iterator[str]:
    """The run of one training, open within the block; yields its id.

    It says from which data (fingerprint), with which code (commit) and with which seed.
    """
    with Registry.of(workspace).tracking(), mlflow.start_run(run_name=name) as run:
        mlflow.set_tags({"model": name, FINGERPRINT: workspace.fingerprint(), "commit": commit()})
        mlflow.log_params({"seed": seed, **params})
        run_id: str = run.info.run_id
        yield run_id


def child_run(name: str, *, params: Mapping[str, Any], metrics: Mapping[str, Interval]) -> None:
    """Log one candidate under the open parent run."""
    with mlflow.start_run(run_name=name, nested=True):
        mlflow.log_params(dict(params))
        mlflow.log_metrics(flat(metrics))


def log_comparison(comparison: Comparison, detail: InDetail | None = None) -> None:
    """Keep how the winner was judged with the open run: for the gate, and as a page for a reader."""
    mlflow.log_dict(asdict(comparison), COMPARISON)
    mlflow.log_text(page(comparison, detail=detail), PAGE)


def log_verdict(registry: Registry, comparison: Comparison, verdict: Verdict) -> None:
    """Keep what the gate said, and by which figures, with the challenger's run (`gate.html`) and its version."""
    registry.tag(verdict.version, GATE, str(verdict))
    with registry.tracking():
        mlflow.log_text(page(comparison, verdict=verdict), GATE_PAGE, run_id=verdict.version.run_id)


def logged_comparison(registry: Registry, run_id: str) -> Comparison:
    """How the winner of a run was judged."""
    with registry.tracking():
        told = mlflow.artifacts.load_dict(f"runs:/{run_id}/{COMPARISON}")
    return TypeAdapter(Comparison).validate_python(told)


@contextmanager
def pictures() -> Iterator[Path]:
    """A folder whose files are kept with the open run, under `pictures/`."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
        mlflow.log_artifacts(folder, "pictures")


def log_report(
    workspace: Workspace,
    kind: str,
    files: Sequence[Path],
    *,
    metrics: Mapping[str, Interval],
    params: Mapping[str, Any],
) -> str:
    """Keep a report that was written, with its numbers, as a run of its own; returns the run's id.

    Args:
        workspace: Whose registry.
        kind: `uplift`, `audience` or `recommender`.
        files: The page and its numbers; kept under `report/`.
        metrics: By name; MLflow's own limits on names are seen to.
        params: What the report was asked.
    """
    with parent_run(
        workspace, f"report-{kind}", seed=0, params={k: str(v)[:MOST_OF_A_PARAM] for k, v in params.items()}
    ) as run_id:
        numbers = {NO_METRIC_NAME.sub("_", name)[:MOST_OF_A_NAME]: value for name, value in flat(metrics).items()}
        mlflow.log_metrics({name: value for name, value in numbers.items() if np.isfinite(value)})
        for file in files:
            mlflow.log_artifact(str(file), "report")
    return run_id


def commit() -> str:
    """The code's git commit, `-dirty` where it was changed since; outside a clone the installed version."""
    done = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--dirty"],  # noqa: S607 - the git on the path, as any tool
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or f"attune {metadata.version('attune')}"


def register_challenger(
    workspace: Workspace,
    name: str,
    folder: Path,
    *,
    run_id: str,
    pyfunc: str,
    packages: Sequence[str],
    metrics: Mapping[str, float],
    tags: Mapping[str, str] | None = None,
    signature: ModelSignature | None = None,
) -> Version:
    """Make a folder the next version of `name` and its challenger, tagged with the data it was made from.

    Args:
        workspace: Whose registry.
        name: Registered model.
        folder: What the model saved, with `examples.json`.
        run_id: Of the open run.
        pyfunc: The file of `pyfuncs/` that answers from the folder.
        packages: What that needs, pinned to what is installed here.
        metrics: How it was judged.
        tags: Kept with the version, beside the data's fingerprint.
        signature: Of the pyfunc's input, output and parameters.
    """
    registry = Registry.of(workspace)
    version = registry.register(
        name,
        folder,
        run_id=run_id,
        code=Path(__file__).parent / "pyfuncs" / pyfunc,
        metrics=metrics,
        tags={**(tags or {}), FINGERPRINT: workspace.fingerprint()},
        pip_requirements=[f"{package}=={metadata.version(package)}" for package in packages],
        signature=signature,
    )
    registry.set_alias(name, CHALLENGER, version.number)
    return version
