"""Expressions over features, such as `product_added_7d > 0 and orders_7d == 0`: parsed safely, never run as code."""

from __future__ import annotations

import ast
import operator
import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import pairwise
from typing import Any, Protocol

import ibis
import numpy as np
import pandas as pd
from ibis.expr import types as ir

from data.errors import WorkspaceError, meant

Operation = Callable[[Any, Any], Any]

COMPARISONS: dict[type[ast.cmpop], Operation] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
ARITHMETIC: dict[type[ast.operator], Operation] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
ALLOWED = (
    *COMPARISONS, *ARITHMETIC, ast.In, ast.NotIn, ast.And, ast.Or, ast.Not, ast.USub, ast.BoolOp, ast.UnaryOp,
    ast.BinOp, ast.Compare, ast.Name, ast.Load, ast.Constant, ast.Tuple, ast.List, ast.Set,
)  # fmt: skip
TRUTHS = {"true": True, "false": False}
"""As JSON, SQL and most languages but Python write them."""
MAX_LENGTH = 2_000
SPACES = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|\s+""", re.DOTALL)
"""Between quotes text is kept as it is written; elsewhere a line break is a space."""


@dataclass(frozen=True)
class Expression:
    """A condition on features. A comparison with a missing value is false; a number divided by zero is missing.

    Attributes:
        text: As written.
        place: Where it was written, for messages: `segments.high_intent`.
        tree: Its syntax, of the allowed kinds only.
    """

    text: str
    place: str
    tree: ast.expr

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The features it reads, in the order of the text."""
        return tuple(dict.fromkeys(node.id for node in self._name_nodes))

    def where(self, table: ir.Table) -> ir.BooleanValue:
        """The condition over an Ibis table of features."""
        self.check(table.columns)
        held: ir.BooleanValue = _Reader(_IbisValues(table), self).holds(self.tree)
        return held

    def mask(self, frame: pd.DataFrame | Mapping[str, np.ndarray]) -> np.ndarray:
        """For which rows of a frame (or of arrays) of features the condition holds: bool of shape (rows,)."""
        self.check(frame)
        rows = len(frame) if isinstance(frame, pd.DataFrame) else len(next(iter(frame.values())))
        with np.errstate(over="ignore"):  # beyond all floats is infinite, and compares as such
            held = _Reader(_ArrayValues(frame), self).holds(self.tree)
        return np.array(np.broadcast_to(held, (rows,)))

    def numbers(self, frame: pd.DataFrame) -> np.ndarray:
        """What an expression that is no condition, such as `cart_value * purchase`, comes to: float of shape (rows,).

        Raises:
            WorkspaceError: it is a condition or text, or names no feature.

        Example:
            >>> parse("cart_value * purchase").numbers(pd.DataFrame({"cart_value": [20.0], "purchase": [0.1]})).tolist()
            [2.0]
        """
        self.check(frame)
        found = _Reader(_ArrayValues(frame), self).amount(self.tree)
        return np.array(np.broadcast_to(found, (len(frame),)), dtype=float)

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether the condition holds for one customer's features."""
        return bool(self.mask({name: np.asarray([value]) for name, value in row.items()})[0])

    def check(
        self,
        features: Collection[str] | pd.DataFrame,
        *,
        called: str = "feature",
        told: str = "",
        lacking: Mapping[str, str] | None = None,
    ) -> None:
        """Refuse a name that is no feature (or no whatever they are called).

        Args:
            features: The names that there are.
            called: What they are called.
            told: What there is, in words.
            lacking: Features that there would be, and what the shop would have to bring.

        Raises:
            WorkspaceError: says which, where, and what may have been meant.
        """
        for node in self._name_nodes:
            if node.id not in features:
                known = list(features)
                if needed := (lacking or {}).get(node.id):
                    raise WorkspaceError(f"{self.place}: {node.id!r} needs {needed}, which this shop did not bring.")
                every = "docs/features.md names them all." if called == "feature" else f"There are {', '.join(known)}."
                hint = meant(node.id, known, f". {told or every}")
                raise WorkspaceError(f"{self.place}: {node.id!r} is no {called} (column {node.col_offset + 1}){hint}")

    @cached_property
    def _name_nodes(self) -> list[ast.Name]:
        nodes = [node for node in ast.walk(self.tree) if isinstance(node, ast.Name) and node.id not in TRUTHS]
        return sorted(nodes, key=lambda node: node.col_offset)


def parse(text: str, *, place: str = "expression", example: str = "orders_30d > 0") -> Expression:
    """Read a condition: names of features, numbers, text, `true false and or not`, comparisons, `in`, `+ - * /`.

    Args:
        text: The condition.
        place: Where it was written, for messages.
        example: One that could stand there, for messages.

    Raises:
        WorkspaceError: what cannot be read, and where.

    Example:
        >>> bought = parse("orders_life > 0 and country in ('DE', 'AT')", place="segments.buyers")
        >>> bought.mask(pd.DataFrame({"orders_life": [2, 0, 1], "country": ["DE", "AT", None]})).tolist()
        [True, False, False]
        >>> bought.check(["order_life", "country"])
        Traceback (most recent call last):
        data.errors.WorkspaceError: segments.buyers: 'orders_life' is no feature (column 1); did you mean 'order_life'?
    """
    text = SPACES.sub(lambda found: found[1] or " ", text.strip())
    if len(text) > MAX_LENGTH:
        raise WorkspaceError(f"{place}: {len(text)} characters are too many; an expression has at most {MAX_LENGTH}.")
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        # Python says 0 where the text ends too early.
        column = (error.offset or len(text) + 1) if isinstance(error, SyntaxError) else 1
        raise WorkspaceError(
            f"{place}: {text!r} cannot be read at column {column}. Write it like `{example}`."
        ) from error
    for node in ast.walk(tree):
        known = isinstance(node, ALLOWED)
        if isinstance(node, ast.Constant):
            # An integer beyond all floats cannot be reckoned with.
            known = isinstance(node.value, bool | float | str) or (
                isinstance(node.value, int) and abs(node.value) <= sys.float_info.max
            )
        if not known:
            column = getattr(node, "col_offset", 0) + 1
            raise WorkspaceError(
                f"{place}: {ast.unparse(node) or type(node).__name__!r} is not allowed (column {column}). "
                f"Use names, numbers, text, true false and or not, comparisons, in, + - * /."
            )
    return Expression(text=text, place=place, tree=tree)


class _Values(Protocol):
    """How values of one engine are read, compared and reckoned with."""

    def column(self, name: str) -> Any: ...
    def constant(self, value: float | str) -> Any: ...
    def is_text(self, value: Any) -> bool | None: ...
    def compare(self, compare: Operation, left: Any, right: Any) -> Any: ...
    def divide(self, left: Any, right: Any) -> Any: ...


class _IbisValues:
    def __init__(self, table: ir.Table) -> None:
        self.table = table

    def column(self, name: str) -> ir.Value:
        column = self.table[name]
        if column.type().is_string():
            return column
        number = column.cast("float64")
        return number.isnan().ifelse(ibis.null("float64"), number)

    def constant(self, value: float | str) -> ir.Value:
        return ibis.literal(value if isinstance(value, str) else float(value))

    def is_text(self, value: ir.Value) -> bool:
        return bool(value.type().is_string())

    def compare(self, compare: Operation, left: ir.Value, right: ir.Value) -> ir.BooleanValue:
        return compare(left, right).fill_null(False)

    def divide(self, left: ir.NumericValue, right: ir.NumericValue) -> ir.NumericValue:
        return left / right.nullif(0)


class _ArrayValues:
    def __init__(self, columns: pd.DataFrame | Mapping[str, np.ndarray]) -> None:
        self.columns = columns

    def column(self, name: str) -> np.ndarray:
        values = self.columns[name]
        if isinstance(values, np.ndarray) and values.dtype == float:
            return values
        values = pd.Series(values)
        if (
            pd.api.types.is_numeric_dtype(values.dtype)
            or pd.api.types.is_bool_dtype(values.dtype)
            or values.isna().all()
        ):
            return values.to_numpy(dtype=float, na_value=np.nan)
        return values.to_numpy(dtype=object)

    def constant(self, value: float | str) -> np.ndarray:
        return np.asarray(value, dtype=object if isinstance(value, str) else float)

    def is_text(self, value: np.ndarray) -> bool | None:
        """None if every value is missing: nothing tells then which kind they would be."""
        return True if value.dtype == object else None if np.isnan(value).all() else False

    def compare(self, compare: Operation, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        left, right = np.broadcast_arrays(left, right)
        told = ~(pd.isna(left) | pd.isna(right))
        held = np.zeros(left.shape, dtype=bool)
        held[told] = compare(left[told], right[told])
        return held

    def divide(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.divide(left, np.where(right == 0, np.nan, right))


class _Reader:
    """Walks the syntax of one expression over the values of one engine."""

    def __init__(self, values: _Values, expression: Expression) -> None:
        self.values, self.expression = values, expression

    def holds(self, node: ast.expr) -> Any:
        """`node` as a condition."""
        match node:
            case ast.BoolOp(op=ast.And(), values=parts):
                return reduce(operator.and_, map(self.holds, parts))
            case ast.BoolOp(op=ast.Or(), values=parts):
                return reduce(operator.or_, map(self.holds, parts))
            case ast.UnaryOp(op=ast.Not(), operand=part):
                return ~self.holds(part)
            case ast.Compare(left=first, ops=compares, comparators=others):
                pairs = zip(compares, pairwise((first, *others)), strict=True)
                return reduce(operator.and_, [self._compared(compare, *pair) for compare, pair in pairs])
            case _:
                return self._compared(ast.NotEq(), node, ast.Constant(0))

    def number(self, node: ast.expr) -> Any:
        """`node` as a value."""
        match node:
            case ast.Name(id=name) if name in TRUTHS:
                return self.values.constant(TRUTHS[name])
            case ast.Name(id=name):
                return self.values.column(name)
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return self.values.constant(value)
            case ast.UnaryOp(op=ast.USub(), operand=part):
                return -self.amount(part)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return self.values.divide(self.amount(left), self.amount(right))
            case ast.BinOp(left=left, op=sign, right=right):
                return ARITHMETIC[type(sign)](self.amount(left), self.amount(right))
            case _:
                raise self._refusal(node, "is no value to compare or to reckon with")

    def _compared(self, compare: ast.cmpop, left: ast.expr, right: ast.expr) -> Any:
        if isinstance(compare, ast.In | ast.NotIn):
            if not isinstance(right, ast.Tuple | ast.List | ast.Set) or not right.elts:
                raise self._refusal(right, "is no list: write `country in ('DE', 'AT')`")
            if isinstance(compare, ast.In):
                return reduce(operator.or_, [self._compared(ast.Eq(), left, part) for part in right.elts])
            return reduce(operator.and_, [self._compared(ast.NotEq(), left, part) for part in right.elts])
        one, other = self.number(left), self.number(right)
        if {self.values.is_text(one), self.values.is_text(other)} >= {True, False}:
            words = [
                f"{ast.unparse(n)} is {'text' if self.values.is_text(v) else 'a number'}"
                for n, v in ((left, one), (right, other))
            ]
            raise self._refusal(left, f"cannot be compared: {words[0]}, {words[1]}")
        return self.values.compare(COMPARISONS[type(compare)], one, other)

    def amount(self, node: ast.expr) -> Any:
        """`node` as a number."""
        value = self.number(node)
        if self.values.is_text(value):
            raise self._refusal(node, "is text, not a number")
        return value

    def _refusal(self, node: ast.expr, why: str) -> WorkspaceError:
        return WorkspaceError(f"{self.expression.place}: {ast.unparse(node)!r} {why} (column {node.col_offset + 1}).")
