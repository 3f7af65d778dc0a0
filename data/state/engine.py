"""The state's database: opening it, bringing its schema up to date, reading and writing in transactions."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from data.errors import StateUnavailableError
from data.settings import Shop
from data.state.tombstones import OPTION, Tombstones
from data.workspace import Workspace

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_SECONDS = 1.0
BUSY_TIMEOUT_MS = {"FULL": int(BUSY_TIMEOUT_SECONDS * 1000), "NORMAL": int(BUSY_TIMEOUT_SECONDS * 250)}
"""What does not wait for the disk does not wait long for another program either."""

SQLITE_PRAGMAS = {
    "journal_mode": "WAL",  # readers never wait for the writer
    "busy_timeout": BUSY_TIMEOUT_MS["FULL"],
    "foreign_keys": "ON",
    "secure_delete": "ON",  # what is erased is overwritten
    "wal_autocheckpoint": 20_000,  # in pages: the service moves the log into the file before, see `State.checkpoint`
}
LONG_LOG = 4_000
"""Pages of the write-ahead log from which on it is begun anew, well before a commit would have to."""


DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql+psycopg")
POSTGRESQL_OPTIONS = {
    "client_encoding": "utf8",
    "connect_timeout": "2",
    "tcp_user_timeout": "2000",
    "options": f"-c lock_timeout={int(BUSY_TIMEOUT_SECONDS * 1000)}",
}
"""What a URL says otherwise holds."""
WRITERS_LOCK = 2_718_281_828
"""Number of the advisory lock that makes PostgreSQL's writers take turns."""


@dataclass(frozen=True)
class State:
    """The live state behind one URL.

    Attributes:
        engine: SQLAlchemy's; use `reading` and `writing` rather than the engine itself.
        tombstones: Who was erased, as of the last write or `tombstones.refresh`.

    Example:
        >>> state = State.open("sqlite://")
        >>> with state.reading() as connection:
        ...     connection.scalar(sa.text("select count(*) from events"))
        0
    """

    engine: sa.Engine
    tombstones: Tombstones = field(default_factory=lambda: Tombstones(Shop().salt))

    @classmethod
    def of(cls, workspace: Workspace) -> State:
        """The state of a workspace.

        Raises:
            StateUnavailableError: as `open`.
        """
        return cls.open(workspace.state_url, salt=workspace.settings.shop.salt)

    @classmethod
    def open(cls, url: str, *, salt: str = Shop().salt) -> State:
        """The state at a SQLAlchemy URL, its schema brought up to date.

        Args:
            url: Where it is.
            salt: The workspace's, by which those who were erased are known again.

        Raises:
            StateUnavailableError: the database cannot be reached, is locked, or is none that there is.
        """
        parsed = _parsed(url)
        options: dict[str, Any] = {"pool_pre_ping": True}
        if parsed.get_backend_name() == "postgresql":
            parsed = parsed.update_query_dict({**POSTGRESQL_OPTIONS, **parsed.query})
        if parsed.get_backend_name() == "sqlite":
            in_memory = parsed.database in (None, "", ":memory:")
            options = {"connect_args": {"check_same_thread": False}}
            if in_memory:
                options["poolclass"] = sa.StaticPool
        # What people did must not stand in logs: an error tells the statement, not its values.
        tombstones = Tombstones(salt)
        engine = sa.create_engine(parsed, hide_parameters=True, execution_options={OPTION: tombstones}, **options)
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _prepare_sqlite)
            sa.event.listen(engine, "begin", _begin_sqlite)
        else:
            sa.event.listen(engine, "begin", _begin_postgresql)
        state = cls(engine, tombstones)
        migrations = _migrations()
        with state.reading() as connection:  # who writes elsewhere does not wait for who only opens
            current = _is_current(connection, migrations)
        if not current:
            with state.writing() as connection:
                _upgrade(connection, migrations)
        with state.reading() as connection:
            tombstones.refresh(connection)
        return state

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection to read with.

        Raises:
            StateUnavailableError: as `writing`.
        """
        with _translated(self.engine), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, *, flush: bool = True, wait: bool = True) -> Iterator[sa.Connection]:
        """A connection in a transaction: committed when the body ends, undone if it fails.

        Args:
            flush: Wait for the disk, so that the rows survive a power cut; PostgreSQL's always do. Without it they
                survive a `kill -9` of this process only (the operating system has them), and the commit takes a
                tenth of the time.
            wait: For another program that is writing; PostgreSQL's writers always do.

        Raises:
            StateUnavailableError: locked (for longer than a second, where that is waited for), disk full, or not
                reachable. Nothing was stored.
        """
        synchronous = "FULL" if flush else "NORMAL"
        busy_timeout = BUSY_TIMEOUT_MS[synchronous] if wait else 0
        with _translated(self.engine), self.engine.connect() as connection:
            writer = connection.execution_options(attune_writes=(synchronous, busy_timeout))
            with writer.begin():
                yield writer

    @property
    def is_file(self) -> bool:
        """Whether it is a file of this machine, which answers without a server that may be away."""
        return self.engine.dialect.name == "sqlite"

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file, beside who writes; else a commit does so, and waits for the disk.

        What is written meanwhile stays in the log, which would never end while somebody writes. Once it is long, who
        writes waits for the few pages that were left, unless somebody else is writing or reading just then. PostgreSQL
        does so by itself.
        """
        _, pages = self._checkpoint("PASSIVE", busy_timeout=0)
        if pages > LONG_LOG:
            self._checkpoint("RESTART", busy_timeout=0)

    def wipe(self) -> None:
        """Let deleted rows go from the write-ahead log too; PostgreSQL's autovacuum does so by itself."""
        until = time.monotonic() + BUSY_TIMEOUT_SECONDS
        while not self._checkpoint("TRUNCATE", busy_timeout=BUSY_TIMEOUT_MS["FULL"])[0] and time.monotonic() < until:
            time.sleep(0.01)  # another one is under way

    def _checkpoint(self, mode: str, *, busy_timeout: int) -> tuple[bool, int]:
        """Whether it was done, and how many pages the log has."""
        if not self.is_file:
            return True, 0
        with _translated(self.engine), self.engine.connect() as connection:
            raw: Any = connection.connection.dbapi_connection
            connection.info.pop("writes", None)  # the next writer says anew how long it waits
            raw.execute(f"PRAGMA busy_timeout={busy_timeout}")
            [(busy, pages, _)] = raw.execute(f"PRAGMA wal_checkpoint({mode})")
        return not busy, pages

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()


@contextmanager
def _translated(engine: sa.Engine) -> Iterator[None]:
    """Database trouble as one kind of error that says what to do."""
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
        reason = str(getattr(error, "orig", None) or error).strip()
        remedy = next((text for sign, text in REMEDIES.items() if sign in reason.lower()), "See that it is reachable")
        where = engine.url.render_as_string(hide_password=True)
        raise StateUnavailableError(
            f"The state {where} cannot be used now: {reason}. {remedy}; nothing is lost."
        ) from error
    except sa.exc.DatabaseError as error:
        if isinstance(error, (sa.exc.IntegrityError, sa.exc.DataError, sa.exc.ProgrammingError)):
            # PostgreSQL's details hold the row; neither the message nor the trace may tell it.
            told = getattr(getattr(error.orig, "diag", None), "message_primary", None)
            if told is None:
                raise
            raise type(error)(error.statement, None, ValueError(told), hide_parameters=True) from None
        where = engine.url.render_as_string(hide_password=True)
        raise StateUnavailableError(
            f"The state {where} cannot be used: {error.orig}. Put a backup in its place, or set state.url."
        ) from error


REMEDIES = {
    "locked": "Another program is writing to it; try again shortly",
    "lock timeout": "Another program is writing to it; try again shortly",
    "full": "Free some disk space and try again",
    "readonly": "Give this user the right to write there",
    "unable to open": "See that its folder exists and can be written",
}


def _parsed(url: str) -> sa.URL:
    """A URL of a database that there is. What is wrong with it is told without it: it may hold a password."""
    try:
        parsed = sa.make_url(url)
        driver = parsed.drivername
    except (sa.exc.ArgumentError, ValueError):
        driver = "what is no SQLAlchemy URL"
    else:
        if driver in DRIVERS:
            return parsed
    raise StateUnavailableError(
        f"state.url: {driver!r} cannot be used. Write postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE, "
        "sqlite:///FILE, or leave it empty."
    )


def _prepare_sqlite(connection: Any, record: Any) -> None:  # noqa: ARG001
    connection.isolation_level = None  # SQLAlchemy's BEGIN below is the only one
    cursor = connection.cursor()
    for name, value in SQLITE_PRAGMAS.items():
        cursor.execute(f"PRAGMA {name}={value}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("attune_writes")
    if writes is None:
        raw: Any = connection.connection.dbapi_connection
        raw.execute("BEGIN").close()  # nothing is waited for yet, and by SQLAlchemy it takes ten times as long
        return
    if connection.info.get("writes") != writes:
        for name, value in zip(("synchronous", "busy_timeout"), writes, strict=True):
            connection.exec_driver_sql(f"PRAGMA {name}={value}")
        connection.info["writes"] = writes
    # IMMEDIATE: a writer waits for its turn at the start; a reader that turns writer would be refused at once.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_postgresql(connection: sa.Connection) -> None:
    """Writers take turns as SQLite's do.

    So rows come to be seen in the order of their `seq`, by which readers know what is new, and nobody looks at the
    tombstones and stores while another erases. All wait for the disk: what a commit leaves to later is in the server's
    own memory until then, and is lost with its process.
    """
    if connection.get_execution_options().get("attune_writes") is not None:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS_LOCK})")
        connection.exec_driver_sql("SET LOCAL synchronous_commit = on")


def _migrations() -> Config:
    """Where they are."""
    from alembic.config import Config  # noqa: PLC0415 - only opening pays for alembic

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def _is_current(connection: sa.Connection, migrations: Config) -> bool:
    """Whether this database has seen them all."""
    from alembic.migration import MigrationContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    head = ScriptDirectory.from_config(migrations).get_current_head()
    return MigrationContext.configure(connection).get_current_revision() == head


def _upgrade(connection: sa.Connection, migrations: Config) -> None:
    """Run those that it has not seen."""
    from alembic import command  # noqa: PLC0415

    migrations.attributes["connection"] = connection
    command.upgrade(migrations, "head")
