"""What the terminal shows of a comparison."""

import io

from rich.console import Console

from cli.comparisons import show
from evaluation.intervals import Interval
from training.results import Comparison, Judged


def test_what_stands_in_brackets_is_shown() -> None:
    profit = {"profit": Interval.around(7.5, 0.6)}
    rows = (Judged("TEN [red] to all", recipe="", is_baseline=True, metrics=profit),)
    notes = ("what orders earn is not known (items.cost, or [offers].margin)",)
    console = Console(file=io.StringIO(), width=150)
    show(Comparison(name="offers", metric="profit", rows=rows, n_rows=12, notes=notes), "offers [new]", console=console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[offers].margin" in said
    assert "TEN [red] to all" in said
    assert "offers [new]" in said
