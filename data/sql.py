"""How SQL and JSON write a text, a name or a file's path that may hold any character."""

from __future__ import annotations


def literal(value: object) -> str:
    """A value, or a file's path, as an SQL string.

    Example:
        >>> literal("the baker's")
        "'the baker''s'"
    """
    return "'" + str(value).replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A column's name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def pointer(field: str) -> str:
    """Where a JSON object has a field, whatever its name holds (RFC 6901).

    Example:
        >>> pointer("a/b")
        '/a~1b'
    """
    return "/" + field.replace("~", "~0").replace("/", "~1")
