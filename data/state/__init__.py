"""The live state: what came in and what was decided since the tables were made, in SQLite or PostgreSQL."""

from data.state.engine import State

__all__ = ["State"]
