"""`attune report`: pages for people who decide."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption, refuse

app = typer.Typer(
    help="Write reports: `attune report audience --where 'churn > .6'`, `attune report uplift --campaign ID`, "
    "`attune report recommender`.",
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
    from evaluation.audience import metrics, text, write
    from training.scoring import audience_of
    from training.tracking import log_report

    shop = Workspace.open(workspace)
    path = to or shop.reports_dir / "audience.html"
    found = audience_of(shop, where=where, labels=None if models is None else [m.strip() for m in models.split(",")])
    write(found, path)
    log_report(shop, "audience", [path], metrics=metrics(found), params={"where": where, "models": models or ""})
    typer.echo(text(found))
    typer.echo(f"The page: {path}")


@app.command()
def recommender(
    *,
    to: Annotated[Path | None, typer.Option(help="Folder of recommender.html and .json; empty = reports/.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Say what is recommended to whom: quality beside the baselines, coverage, popularity, cold people, examples.

    Example: `attune report recommender`
    """
    from data.workspace import Workspace
    from evaluation.recommender_report import metrics, text, write
    from training.recommender_report import recommender_report
    from training.tracking import log_report

    shop = Workspace.open(workspace)
    found = recommender_report(shop)
    files = [(to or shop.reports_dir) / f"recommender{suffix}" for suffix in (".html", ".json")]
    for file in files:
        write(found, file)
    # Without the page: it names people, and an erasure does not reach what MLflow keeps.
    log_report(shop, "recommender", [], metrics=metrics(found), params={"judged_at": found.at})
    typer.echo(text(found))
    typer.echo(f"The page: {files[0]}; its numbers: {files[1]}")


@app.command()
def uplift(
    *,
    campaign: Annotated[
        str | None, typer.Option(help="Of one campaign, by its id: what its decisions changed.")
    ] = None,
    decisions: Annotated[bool, typer.Option("--decisions", help="Of all decisions that the workspace knows.")] = False,
    experiment: Annotated[
        Path | None, typer.Option(help="Of any table, a row per person: a .parquet or .csv file.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Of decisions: offer, variant, action; by default all of them.")
    ] = None,
    since: Annotated[datetime | None, typer.Option(help="Decisions from that day on.", formats=["%Y-%m-%d"])] = None,
    days: Annotated[
        float | None,
        typer.Option(
            help="How long after their first decision what people do counts; 14 of a campaign, else all.", min=1
        ),
    ] = None,
    treatment: Annotated[str | None, typer.Option(help="Column that names what each person was sent.")] = None,
    outcome: Annotated[str | None, typer.Option(help="Column of what came of it: a yes or a no, or an amount.")] = None,
    control: Annotated[
        str | None, typer.Option(help="Who was left alone; empty = the arm named control, none, No E-Mail, 0, ...")
    ] = None,
    money: Annotated[str | None, typer.Option(help="Column of what each person spent.")] = None,
    share: Annotated[
        list[str] | None, typer.Option(help="Planned share of each arm, `ARM=0.6`; empty = a usual plan is looked for.")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            help="With --cost: share of the money that is earned, or what one outcome is worth; by default 1."
        ),
    ] = None,
    cost: Annotated[
        list[str] | None, typer.Option(help="Of sending to one person, `0.1` or `ARM=0.1`; then profit decides.")
    ] = None,
    before: Annotated[
        list[str] | None,
        typer.Option(help="Columns known before, with commas: they make it surer, and tell who gains."),
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Column of ids, to find people in two arms; empty = user_id, customer, ...")
    ] = None,
    date: Annotated[str | None, typer.Option(help="Column of when each person joined.")] = None,
    rule: Annotated[
        str | None, typer.Option(help="To hold against the model: `mens == 1 -> Mens else Womens`.")
    ] = None,
    currency: Annotated[str | None, typer.Option(help="Of the money and costs, such as EUR.")] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the page and its numbers; empty = reports/ of the workspace, of --experiment reports/ here."
        ),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Say what a campaign, all decisions or any experiment changed, whether to believe it, and whom to contact.

    Options from --treatment on are for --experiment; --kind, --since and --days for the decisions of a workspace.

    Example: `attune report uplift --campaign spring`, or
    `attune report uplift --experiment mail.parquet --treatment segment --outcome visit --money spend`
    """
    from data.errors import DataError
    from data.workspace import Workspace
    from evaluation import sent_report, uplift_report
    from training.tracking import log_report

    if sum([campaign is not None, decisions, experiment is not None]) != 1:
        raise DataError("say what to report on: --campaign ID, --decisions, or --experiment FILE; one of them.")
    shop = Workspace(workspace) if experiment else Workspace.open(workspace)
    if experiment is None:
        refuse(
            {
                "--treatment": treatment, "--outcome": outcome, "--control": control, "--money": money,
                "--share": share, "--margin": margin, "--cost": cost, "--before": before, "--user": user,
                "--date": date, "--rule": rule, "--currency": currency,
            },
            "goes with --experiment",
        )  # fmt: skip
        from features.decided import KINDS, NoDecisionError
        from training.campaign_report import campaign_report, messages_report

        if unknown := set(kind or ()) - set(KINDS):
            raise DataError(f"--kind {min(unknown)}: there are {', '.join(KINDS)}.")
        moment = None if since is None else since.replace(tzinfo=UTC)
        report: uplift_report.UpliftReport | sent_report.SentReport
        try:
            report = campaign_report(shop, campaign=campaign, kinds=tuple(kind or KINDS), since=moment, days=days)
        except NoDecisionError:
            if campaign is None or kind or moment:
                raise
            report = messages_report(shop, campaign=campaign, days=days)
        name = "-".join(["decisions", *sorted(set(kind or ()))])
        if campaign is not None:
            name = "campaign-" + _file_name(campaign)
        folder = to or shop.reports_dir
    else:
        refuse({"--kind": kind, "--since": since, "--days": days}, "is of decisions")
        if treatment is None or outcome is None:
            raise DataError("--experiment needs --treatment and --outcome: the columns of the arms and of what came.")
        refuse(
            {} if cost else {"--margin": margin}, "says nothing without --cost", "Give that too, or leave --margin out."
        )
        refuse(
            {} if before else {"--rule": rule}, "says nothing without --before", "Give that too, or leave --rule out."
        )
        from data.files import read_rows
        from features.rules import parse_rule
        from training.uplift_report import run_of
        from training.uplift_report import uplift_report as report_of

        rows = read_rows(experiment)
        known = [name for names in before or () for name in _names(names, rows)]
        given = {
            "treatment": treatment, "control": control, "outcome": outcome, "money": money,
            "margin": None if margin is None else f"{margin:g}", "cost": ", ".join(cost or ()),
            "share": ", ".join(share or ()), "before": ", ".join(known), "user": user, "date": date, "rule": rule,
            "currency": currency,
        }  # fmt: skip
        report = report_of(
            rows,
            treatment=treatment,
            outcome=outcome,
            control=control,
            money=money,
            margin=1 if margin is None else margin,
            costs=_by_arm(cost, "--cost"),
            shares=_shares(share),
            before=known,
            user=user,
            date=date,
            rule=None if rule is None else parse_rule(rule),
            currency=currency or "",
            run=run_of(experiment, len(rows), {name: value for name, value in given.items() if value}),
        )
        name, folder = "uplift", to or Path("reports")
    files = [folder / f"{name}{suffix}" for suffix in (".html", ".json")]
    pages = sent_report if isinstance(report, sent_report.SentReport) else uplift_report
    for file in files:
        pages.write(report, file)
    if shop.tables_dir.is_dir():
        asked = {**report.run.options, "verdict": report.verdict.kind}
        log_report(shop, "uplift", files, metrics=pages.metrics(report), params=asked)
    typer.echo(pages.text(report))
    typer.echo(f"The page: {files[0]}; its numbers: {files[1]}")


def _file_name(campaign: str) -> str:
    """A campaign's id as a file may be called; two campaigns never share one."""
    plain = re.sub(r"[^\w.-]+", "-", campaign)
    return plain if plain == campaign.replace(" ", "-") else f"{plain}-{sha256(campaign.encode()).hexdigest()[:6]}"


def _names(told: str, columns: Container[str]) -> list[str]:
    """Columns named with commas between them; one that has a comma or blanks of its own is named alone."""
    if told in columns:
        return [told]
    return [name if name in columns else name.strip() for name in told.split(",") if name.strip()]


def _shares(told: list[str] | None) -> dict[str, float] | None:
    """Planned shares, of each arm one.

    Raises:
        DataError: they are told otherwise.
    """
    from data.errors import DataError

    found = _by_arm(told, "--share")
    if isinstance(found, float):
        raise DataError(f"--share {found:g}: give ARM=NUMBER for each arm.")
    return found


def _by_arm(told: list[str] | None, option: str) -> dict[str, float] | float | None:
    """`["0.1"]` is of all arms, `["Mens=0.1", "Womens=0.2"]` of each.

    Raises:
        DataError: one that is neither, or an arm told twice.
    """
    from data.errors import DataError

    if not told:
        return None
    try:
        if len(told) == 1 and "=" not in told[0]:
            return float(told[0])
        amounts = [(arm.strip(), float(amount)) for arm, amount in (part.rsplit("=", 1) for part in told)]
    except ValueError:
        raise DataError(f"{option} {' '.join(told)}: give one number, or ARM=NUMBER for each arm.") from None
    if twice := [arm for arm, n in Counter(arm for arm, _ in amounts).items() if n > 1]:
        raise DataError(f"{option} tells {twice[0]!r} more than once. Give each arm one number.")
    return dict(amounts)
