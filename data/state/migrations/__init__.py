"""Alembic migrations of the state; `State.open` runs those that a database has not seen."""
