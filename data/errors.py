"""The errors a person can act on: each names the thing, the value and the remedy."""

import difflib
from collections.abc import Iterable


class AttuneError(Exception):
    """Base of every error whose message is meant for the person at the keyboard; the CLI prints it without a trace."""


class WorkspaceError(AttuneError):
    """The workspace or its settings cannot be used."""


class DataError(AttuneError):
    """A table, file or value does not fit the contract."""


class NotFittedError(AttuneError):
    """A model was asked before it learnt."""


class ModelFileError(AttuneError):
    """A stored model is missing, truncated or changed."""


class StateUnavailableError(AttuneError):
    """The live state cannot be read or written now: locked, full or not reachable."""


def meant(name: str, known: Iterable[str], otherwise: str) -> str:
    """What may have been meant by a name that there is not, else what is to be said otherwise.

    Example:
        >>> meant("tee", ["tea", "cup"], "."), meant("soap", ["tea", "cup"], ".")
        ("; did you mean 'tea'?", '.')
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else otherwise
