"""A PostgreSQL of one's own for as long as it is needed, for benchmarks and tests."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from data.errors import DataError

OWNER = "postgres"
"""Who runs it where we are root, which PostgreSQL refuses."""
HOMES = "/usr/lib/postgresql/*/bin"


@dataclass(frozen=True)
class Cluster:
    """A running PostgreSQL that only this machine's socket leads to.

    Attributes:
        programs: Where `initdb` and `pg_ctl` are.
        folder: Its data, its log and its socket.
    """

    programs: Path
    folder: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    def url(self, database: str = "postgres") -> str:
        """SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://attune@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """URL of a database with nothing in it."""
        name = f"attune_{next(self._numbers)}"
        engine = sa.create_engine(self.url(), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def make(self) -> None:
        """Its data folder, for whom the socket is enough of a key."""
        about = ("--auth=trust", "--username=attune", "--encoding=UTF8", "--no-sync")
        self._run("initdb", "--pgdata", str(self.folder / "data"), *about)

    def start(self) -> None:
        """Until it takes connections."""
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off"
        log = str(self.folder / "log")
        self._run("pg_ctl", "--pgdata", str(self.folder / "data"), "--log", log, "-w", "-o", options, "start")

    def stop(self, how: str = "fast") -> None:
        """As an operator (`fast`) or as a power cut (`immediate`) would."""
        self._run("pg_ctl", "--pgdata", str(self.folder / "data"), "--mode", how, "-w", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.programs / program, *arguments],
            user=OWNER if os.geteuid() == 0 else None,
            cwd=self.folder,
            env={"LC_ALL": "C", "PATH": os.defpath},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        if done.returncode:
            raise DataError(f"{program} failed: {done.stdout.strip()}")


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Make one, and remove it in the end.

    Raises:
        DataError: PostgreSQL is not installed, or cannot be started.
    """
    found = shutil.which("pg_ctl")
    homes = [Path(found).resolve().parent] if found else sorted(Path("/").glob(HOMES.lstrip("/")))
    if not homes:
        raise DataError("PostgreSQL is not installed: there is no pg_ctl. `apt-get install postgresql` brings it.")
    # Not within a folder that only root may enter; short, because a socket's path is.
    folder = Path(tempfile.mkdtemp(prefix="attune-pg-", dir="/tmp"))
    made = Cluster(homes[-1], folder)
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, OWNER)
        made.make()
        made.start()
        yield made
    finally:
        with contextlib.suppress(DataError):  # it was stopped, or never ran
            made.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)
