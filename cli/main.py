"""`attune`: the command line. Each verb is a file of this folder with one function of the verb's name."""

from __future__ import annotations

import importlib
import logging
import signal
import sys
from types import FrameType

import typer

VERBS: tuple[str, ...] = (
    "demo",
    "doctor",
    "import_",
    "sync",
    "serve",
    "check",
    "features",
    "simulate",
    "train",
    "compare",
    "promote",
    "rollback",
    "retrain",
    "score",
    "erase",
)
"""Verbs in the order that `attune --help` shows them; a verb named like a keyword lives in `<verb>_.py`."""

GROUPS: tuple[str, ...] = ("keys", "report")
"""Files whose `app` is a group of verbs (`attune keys create`)."""

app = typer.Typer(
    name="attune",
    help="Recommendations, propensities and uplift for personalised marketing. Start with `attune demo`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback()
def options(*, verbose: bool = typer.Option(False, "--verbose", "-v", help="Log what is being done.")) -> None:
    """Recommendations, propensities and uplift for personalised marketing. Start with `attune demo`."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("attune").setLevel(logging.INFO if verbose else logging.WARNING)


for _verb in VERBS:
    _module = importlib.import_module(f"cli.{_verb}")
    app.command(_verb.rstrip("_").replace("_", "-"))(getattr(_module, _verb))
for _group in GROUPS:
    app.add_typer(importlib.import_module(f"cli.{_group}").app, name=_group)


def main() -> None:
    """Run the command line; an error meant for a person is one line, not a trace."""
    from data.errors import AttuneError

    signal.signal(signal.SIGTERM, _end)
    try:
        app()
    except AttuneError as error:
        typer.secho(f"attune: {error}", fg="red", err=True)
        raise SystemExit(1) from None
    except OSError as error:  # such as a folder that may not be written
        if error.filename is None:
            raise
        typer.secho(f"attune: {error.filename}: {error.strerror}", fg="red", err=True)
        raise SystemExit(1) from None
    except (SystemExit, RuntimeError) as error:
        # What typer and DuckDB make of Ctrl-C.
        if (error.code != 130) if isinstance(error, SystemExit) else (str(error) != "Query interrupted"):
            raise
        typer.secho("attune: interrupted; run the same command again to go on.", err=True)
        raise SystemExit(130) from None


def _end(number: int, _frame: FrameType | None) -> None:
    """End as an error does, so that files are put away and MLflow's open runs are marked as failed."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
