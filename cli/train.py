"""`attune train`: fit, judge and register models."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption, option_of, refuse


def train(
    model: Annotated[
        Literal["recommender", "propensity", "value", "send-time", "offers", "variants", "all"],
        typer.Argument(help="What to train."),
    ] = "all",
    *,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    label: Annotated[str | None, typer.Option(help="One label of [propensity]; empty = all of them.")] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Of a search, for the recommender and each propensity.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="The same search, about so long for each.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed and data, same model; empty = training.seed.")] = None,
) -> None:
    """Fit candidates and baselines, judge them on what came after, register the winner as challenger.

    Each model is one MLflow run: parameters, figures with intervals, pictures. Nothing goes live yet; that is for
    `attune promote`.

    Without --trials and --minutes the recommender is chosen among a few quick families with their defaults, and a
    propensity has its defaults. With either, all families are searched on days before the test, and the best are
    blended; a propensity's hyperparameters are searched on cutoffs before its test. A search that was cut off goes on
    where it stopped when the same command is given again.

    Example: `attune train propensity --label churn --trials 20`

    Example: `attune train recommender --trials 30 --minutes 20`
    """
    from cli.comparisons import show
    from data.workspace import Workspace
    from training.jobs import train as run

    if model not in ("propensity", "all"):
        refuse({"--label": label}, f"is of propensity, not of {model}")
    if model not in ("recommender", "propensity", "all"):
        refuse({"--trials": trials, "--minutes": minutes}, f"is of a search, and {model} has none")
    shop = Workspace.open(workspace)
    trained = run(shop, model, label=label, trials=trials, minutes=minutes, seed=seed)
    for result in trained.results:
        show(result.test, f"{result.version} · {result.chosen}")
    for name, reason in trained.left_out.items():
        typer.echo(f"{name} is left out: {reason}")
    typer.echo(f"All of it: mlflow ui --backend-store-uri {shop.registry_uri}")
    name = trained.results[0].version.name if len(trained.results) == 1 else "--all"
    typer.echo(f"Next: attune promote {name} {option_of(workspace)}")
