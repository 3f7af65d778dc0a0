"""Rows of the state as Arrow, for Parquet and for DuckDB."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa
import sqlalchemy as sa

from data.contract import TABLES, ColumnType

SEQ = "state_seq"
"""Column of a synced table: the row's `seq` in the state. The largest in the checked tables tells serving which of
the state's rows are not in them yet."""

EXTRA = "extra"
"""Attributes outside the contract, as JSON text."""

TYPES: dict[ColumnType, pa.DataType] = {
    "string": pa.string(),
    "time": pa.timestamp("us", tz="UTC"),
    "float": pa.float64(),
    "int": pa.int64(),
    "bool": pa.bool_(),
    "strings": pa.list_(pa.string()),
    "floats": pa.list_(pa.float64()),
}
ROWS_AT_ONCE = 50_000


def schema(name: str) -> pa.Schema:
    """The contract's columns of a table, then `SEQ` (null for a table without one) and `EXTRA`."""
    columns = [(column.name, TYPES[column.type]) for column in TABLES[name].columns]
    return pa.schema([*columns, (SEQ, pa.int64()), (EXTRA, pa.string())])


def batches(connection: sa.Connection, query: sa.Select, name: str) -> Iterator[pa.RecordBatch]:
    """Rows of one table of the state, streamed.

    Args:
        connection: From `State.reading`.
        query: Selects whole rows of the table.
        name: The table.
    """
    wanted = schema(name)
    found = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query)
    names = tuple(found.keys())
    for rows in found.partitions():
        values = dict(zip(names, zip(*rows, strict=True), strict=True))
        values[EXTRA] = tuple(None if value is None else json.dumps(value, sort_keys=True) for value in values[EXTRA])
        missing = (None,) * len(rows)
        columns = [
            pa.array(values.get("seq" if field.name == SEQ else field.name, missing), field.type) for field in wanted
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=wanted)
