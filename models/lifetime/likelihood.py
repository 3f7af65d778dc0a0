"""Maximum likelihood for models whose parameters are all positive: several starts, convergence and errors told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, dataclass, fields
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from scipy.optimize import OptimizeResult, minimize

from data.errors import DataError
from models.lifetime.summary import Summary

LOG_BOUND = 12.0
"""Parameters are looked for between e^-12 and e^12; one that gets there is not told by the data."""
MAX_GRADIENT = 1e-4
"""Of the mean log-likelihood per customer, in log parameters: below it the top is reached."""
HESSIAN_STEP = 1e-4


class Likelihood(Protocol):
    """A frozen dataclass whose fields are its positive parameters."""

    name: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @staticmethod
    def data(summary: Summary) -> np.ndarray:
        """What the likelihood reads of those whom it can learn from, a row each, shape (n, n_columns)."""
        ...

    @staticmethod
    def starts(data: np.ndarray) -> list[tuple[float, ...]]:
        """Parameters to climb from."""
        ...

    @classmethod
    def log_likelihood(cls, parameters: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each row's log-likelihood, shape (n,), and its derivative by each parameter, shape (n_parameters, n)."""
        ...


M = TypeVar("M", bound=Likelihood)
Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]


@dataclass(frozen=True)
class Fit(Generic[M]):
    """A fitted model, and how far to trust it.

    Attributes:
        model: With the parameters found.
        standard_errors: Of each parameter, in their order; NaN where the data do not tell it.
        log_likelihood: The sum over the customers.
        n_customers: Whom it learnt from.
        n_rows: Different rows among them: what the sum costs.
        converged: Whether the top was reached, with no parameter at its bound.
        message: Why not; empty if it was.
    """

    model: M
    standard_errors: tuple[float, ...]
    log_likelihood: float
    n_customers: int
    n_rows: int
    converged: bool
    message: str

    @property
    def aic(self) -> float:
        """Akaike's criterion (1974): the smaller, the better the model explains the same customers."""
        return 2 * len(self.standard_errors) - 2 * self.log_likelihood


def fit(kind: type[M], summary: Summary) -> Fit[M]:
    """The parameters that make what was seen likeliest.

    Customers with the same row are counted, not repeated. Climbs on the logarithms of the parameters (L-BFGS-B)
    from each start, and keeps the highest top.

    Raises:
        DataError: nobody bought again, or too few rows differ to learn from.

    Example:
        >>> from models.lifetime import BgNbd
        >>> x, t_x = np.array([0.0, 0, 0, 2, 5, 1]), np.array([0.0, 0, 0, 9, 30, 3])
        >>> told = Summary(np.arange(6), x, t_x, np.full(6, 38.0), np.zeros(6), np.zeros(6))
        >>> fit(BgNbd, told).n_rows
        4
    """
    if not (summary.frequency > 0).any():
        raise DataError(
            f"{kind.name}: none of {len(summary):,} customers bought again, so there is nothing to learn from. "
            "Bring a longer history, or choose a later cutoff."
        )
    data, counts = np.unique(kind.data(summary), axis=0, return_counts=True)
    names = [field.name for field in fields(kind)]
    if len(data) < 2:
        raise DataError(
            f"{kind.name} learns from {len(summary):,} customers, of whom {int(counts.sum()):,} can tell something, in "
            f"{len(data)} different rows; at least 2 are needed. Bring more customers who bought again for money."
        )
    weights = counts / counts.sum()

    def loss(logs: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = np.exp(logs)
        rows, gradient = kind.log_likelihood(parameters, data)
        return -float(weights @ rows), -(gradient @ weights) * parameters

    bounds = [(-LOG_BOUND, LOG_BOUND)] * len(names)
    tops = [
        minimize(loss, np.log(start), jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-13, "gtol": 1e-7})
        for start in kind.starts(data)
    ]
    top = min(tops, key=lambda found: float(found.fun))
    logs = np.asarray(top.x)
    message = _doubt(top, names)
    return Fit(
        model=kind(*np.exp(logs).tolist()),
        standard_errors=tuple((np.exp(logs) * _errors(loss, logs, int(counts.sum()))).tolist()),
        log_likelihood=-float(top.fun) * int(counts.sum()),
        n_customers=int(counts.sum()),
        n_rows=len(data),
        converged=not message,
        message=message,
    )


def _doubt(top: OptimizeResult, names: list[str]) -> str:
    """Why a top is none; empty if it is one."""
    stuck = [name for name, log in zip(names, top.x, strict=True) if abs(log) > LOG_BOUND - 1e-6]
    if stuck:
        return f"{', '.join(stuck)} ran to the bound: the data do not tell it"
    steepest = float(np.abs(top.jac).max())
    return f"stopped at a slope of {steepest:.1e}: {top.message}" if not steepest < MAX_GRADIENT else ""


def _errors(loss: Loss, logs: np.ndarray, n: int) -> np.ndarray:
    """Standard errors of the log parameters: the inverse of the curvature, by differences of the slope."""
    steps = HESSIAN_STEP * np.eye(len(logs))
    curvature = np.array([(loss(logs + step)[1] - loss(logs - step)[1]) / (2 * HESSIAN_STEP) for step in steps]) * n
    try:
        variance = np.diag(np.linalg.inv((curvature + curvature.T) / 2))
    except np.linalg.LinAlgError:
        return np.full(len(logs), np.nan)
    errors: np.ndarray = np.sqrt(np.where(variance > 0, variance, np.nan))
    return errors
