"""A real shop a month later, as docs/propensity.md tells it: a challenger, a page, a verdict with reasons."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pandas as pd
import pytest
from typer.testing import CliRunner

from cli.main import app
from data.workspace import Workspace
from registry.versions import CHALLENGER, CHAMPION, Registry
from training.tracking import GATE

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "online_retail" / "lines.parquet"
CHURN = "propensity-churn"


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason=f"needs {DATA}")
def test_a_retrain_on_a_later_month_gives_a_challenger_a_page_and_a_verdict(tmp_path: Path) -> None:
    folder = tmp_path / "shop"

    def attune(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments, "--workspace", str(folder)])
        assert done.exit_code == 0, done.output
        return done.output

    early = tmp_path / "early.parquet"
    lines = pd.read_parquet(DATA)
    lines[lines["InvoiceDate"] < "2011-11-09"].to_parquet(early)
    attune("import", "online-retail", str(early))
    attune("check")
    attune("train", "propensity", "--label", "churn")
    assert f"{CHURN} 1: promoted" in attune("promote", CHURN)

    attune("import", "online-retail", str(DATA), "--replace")
    attune("check")
    attune("train", "propensity", "--label", "churn")
    registry = Registry.of(Workspace.open(folder))
    challenger = registry.version(CHURN, CHALLENGER)
    assert challenger is not None
    assert challenger.number == 2

    done = CliRunner().invoke(app, ["promote", CHURN, "--workspace", str(folder)])
    decided = registry.version(CHURN, 2)
    assert decided is not None
    verdict = decided.tags[GATE]
    assert verdict in done.output
    assert verdict.startswith((f"{CHURN} 2: promoted: ", f"{CHURN} 2: refused: "))
    assert done.exit_code == (0 if "promoted" in verdict else 1)
    champion = registry.version(CHURN, CHAMPION)
    assert champion is not None
    assert champion.number == (2 if "promoted" in verdict else 1)
    with registry.tracking():
        page = mlflow.artifacts.load_text(f"runs:/{challenger.run_id}/gate.html")
        trained = mlflow.artifacts.load_text(f"runs:/{challenger.run_id}/comparison.html")
    assert "challenger 2" in page
    assert "champion 1" in page
    assert "has seen these rows" in page
    for part in ("Tenths of the people", "tenure", "lifecycle", "logistic regression on RFM"):
        assert part in trained
