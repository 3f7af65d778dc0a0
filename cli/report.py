"""`attune report`: pages for people who decide."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption

app = typer.Typer(
    help="Write reports: `attune report audience --where 'churn > .6'`, `attune report uplift --experiment FILE ...`.",
    no_args_is_help=True,
)


@app.callback()
def reports() -> None:
    """Write reports."""


@app.command()
def audience(
    *,
    where: Annotated[str, typer.Option(help="Who: an expression over scores, lifecycle, segments and features.")],
    models: Annotated[str | None, typer.Option(help="Labels, with commas; empty = all that have a champion.")] = None,
    to: Annotated[Path | None, typer.Option(help="A file, .html or .json; empty = reports/audience.html.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Say who an audience is: its size, what it is expected to do, its lifecycle stages, beside everybody.

    Example: `attune report audience --where 'churn > .6 and spend_365d > 200'`
    """
    from data.workspace import Workspace
    from evaluation.audience import text, write
    from training.scoring import audience_of

    shop = Workspace.open(workspace)
    path = to or shop.reports_dir / "audience.html"
    found = audience_of(shop, where=where, labels=None if models is None else [m.strip() for m in models.split(",")])
    write(found, path)
    typer.echo(text(found))
    typer.echo(f"The page: {path}")


@app.command()
def uplift(
    *,
    experiment: Annotated[Path, typer.Option(help="The table, a row per person: a .parquet or .csv file.")],
    treatment: Annotated[str, typer.Option(help="Column that names what each person was sent.")],
    outcome: Annotated[str, typer.Option(help="Column of what came of it: a yes or a no, or an amount.")],
    control: Annotated[
        str | None, typer.Option(help="Who was left alone; empty = the arm named control, none, No E-Mail, 0, ...")
    ] = None,
    money: Annotated[str | None, typer.Option(help="Column of what each person spent.")] = None,
    margin: Annotated[
        float, typer.Option(help="Share of the money that is earned; without --money, of one outcome.")
    ] = 1,
    cost: Annotated[
        list[str] | None, typer.Option(help="Of sending to one person, `0.1` or `ARM=0.1`; then profit decides.")
    ] = None,
    before: Annotated[
        list[str] | None,
        typer.Option(help="Columns known before, with commas: they make it surer, and tell who gains."),
    ] = None,
    date: Annotated[str | None, typer.Option(help="Column of when each person joined.")] = None,
    rule: Annotated[
        str | None, typer.Option(help="To hold against the model: `mens == 1 -> Mens else Womens`.")
    ] = None,
    currency: Annotated[str, typer.Option(help="Of the money and costs, such as EUR.")] = "",
    to: Annotated[Path, typer.Option(help="Folder of uplift.html and uplift.json.")] = Path("reports"),
) -> None:
    """Say what an experiment changed, whether to believe it, and whom to contact with what.

    Example: `attune report uplift --experiment mail.parquet --treatment segment --outcome visit --money spend`
    """
    from evaluation.uplift_report import text, write
    from features.rules import parse_rule
    from training.uplift_report import read_rows, run_of, uplift_report

    rows = read_rows(experiment)
    known = [name.strip() for names in before or () for name in names.split(",") if name.strip()]
    given = {
        "treatment": treatment, "control": control, "outcome": outcome, "money": money, "margin": f"{margin:g}",
        "cost": ", ".join(cost or ()), "before": ", ".join(known), "date": date, "rule": rule, "currency": currency,
    }  # fmt: skip
    report = uplift_report(
        rows,
        treatment=treatment,
        outcome=outcome,
        control=control,
        money=money,
        margin=margin,
        costs=_costs(cost),
        before=known,
        date=date,
        rule=None if rule is None else parse_rule(rule),
        currency=currency,
        run=run_of(experiment, len(rows), {name: value for name, value in given.items() if value}),
    )
    to.mkdir(parents=True, exist_ok=True)
    for name in ("uplift.html", "uplift.json"):
        write(report, to / name)
    typer.echo(text(report))
    typer.echo(f"The page: {to / 'uplift.html'}; its numbers: {to / 'uplift.json'}")


def _costs(told: list[str] | None) -> dict[str, float] | float | None:
    """`["0.1"]` is of all arms, `["Mens=0.1", "Womens=0.2"]` of each.

    Raises:
        DataError: one that is neither.
    """
    from data.errors import DataError

    if not told:
        return None
    try:
        if len(told) == 1 and "=" not in told[0]:
            return float(told[0])
        return {arm.strip(): float(amount) for arm, amount in (part.rsplit("=", 1) for part in told)}
    except ValueError:
        raise DataError(f"--cost {' '.join(told)}: give one number, or ARM=NUMBER for each arm.") from None
