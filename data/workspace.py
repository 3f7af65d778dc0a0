"""The workspace: a folder with `attune.toml`, the tables and everything made from them."""

from __future__ import annotations

import hashlib
import json
import secrets
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from data.errors import WorkspaceError
from data.settings import Settings
from data.tables import Tables

SETTINGS_FILE = "attune.toml"


@dataclass(frozen=True)
class Workspace:
    """One shop's folder. Passed as an argument, never a global.

    Attributes:
        path: The folder.
    """

    path: Path

    @classmethod
    def create(cls, path: Path | str, *, name: str = "shop", currency: str = "USD") -> Workspace:
        """Make the folder and its `attune.toml` unless they are there already."""
        workspace = cls(Path(path))
        workspace.tables_dir.mkdir(parents=True, exist_ok=True)
        if not workspace.settings_file.exists():
            workspace.settings_file.write_text(
                "# Every setting has a default; docs/settings.md lists them. ATTUNE_* variables win over this file.\n"
                f"[shop]\nname = {json.dumps(name, ensure_ascii=False)}\n"
                f'currency = "{currency}"\nsalt = "{secrets.token_hex(8)}"\n',
                encoding="utf-8",
            )
        return workspace

    @classmethod
    def open(cls, path: Path | str) -> Workspace:
        """The workspace at a folder that has tables or settings.

        Raises:
            WorkspaceError: no such folder, or nothing of a workspace in it.
        """
        workspace = cls(Path(path))
        if not (workspace.tables_dir.is_dir() or workspace.settings_file.is_file()):
            raise WorkspaceError(
                f"{workspace.path} is no workspace: it has neither {SETTINGS_FILE} nor tables/. "
                "Name the folder of yours with --workspace (`.` where you stand in it), or make one with "
                f"`attune import SOURCE PATH --workspace {shlex.quote(str(path))}` or `attune demo`."
            )
        return workspace

    @cached_property
    def settings(self) -> Settings:
        """The settings: defaults, then `attune.toml`, then `ATTUNE_*`."""
        return Settings.load(self.settings_file)

    @property
    def settings_file(self) -> Path:
        """Where the settings are."""
        return self.path / SETTINGS_FILE

    @property
    def tables_dir(self) -> Path:
        """The tables as imported or synced."""
        return self.path / "tables"

    @property
    def checked_dir(self) -> Path:
        """The good rows, typed and sorted by user, as `attune check` left them."""
        return self.path / "checked"

    @property
    def quarantine_dir(self) -> Path:
        """The bad rows, each with its reason."""
        return self.path / "quarantine"

    @property
    def snapshots_dir(self) -> Path:
        """Feature snapshots, one Parquet partition per cutoff."""
        return self.path / "snapshots"

    @property
    def reports_dir(self) -> Path:
        """What people read: the audit, pictures, pages."""
        return self.path / "reports"

    @property
    def erasures_dir(self) -> Path:
        """Receipts of who was erased, without their names."""
        return self.path / "erasures"

    @property
    def models_dir(self) -> Path:
        """Model versions fetched from the registry, ready to be memory-mapped."""
        return self.path / "models"

    @property
    def state_url(self) -> str:
        """SQLAlchemy URL of the live state."""
        return self.settings.state.url or f"sqlite:///{(self.path / 'state.db').resolve()}"

    @property
    def registry_uri(self) -> str:
        """MLflow tracking URI."""
        return self.settings.registry.uri or f"sqlite:///{(self.path / 'mlflow.db').resolve()}"

    @property
    def tables(self) -> Tables:
        """The tables as brought, unchecked."""
        return Tables.open(self.tables_dir, memory_limit_gb=self.settings.data.memory_limit_gb)

    @property
    def checked(self) -> Tables:
        """The good rows.

        Raises:
            WorkspaceError: `attune check` has not run since the tables changed.
        """
        if not self.is_checked:
            raise WorkspaceError(
                f"{self.tables_dir} has not been checked since it changed. "
                f"Run `attune check --workspace {shlex.quote(str(self.path))}` first."
            )
        return Tables.open(self.checked_dir, memory_limit_gb=self.settings.data.memory_limit_gb)

    @property
    def is_checked(self) -> bool:
        """Whether `checked/` was made from the tables as they are now."""
        stamp = self.checked_dir / "fingerprint.txt"
        if not stamp.is_file() or stamp.read_text(encoding="utf-8") != self.fingerprint():
            return False
        # A change in the middle of a file escapes the fingerprint, but not the file system's clock.
        return all(file.stat().st_mtime_ns <= stamp.stat().st_mtime_ns for file in self._table_files())

    def fingerprint(self) -> str:
        """Hash of the tables' names, sizes and last 64 kB: tells two states of `tables/` apart, and so do models."""
        digest = hashlib.sha256()
        for file in self._table_files():
            size = file.stat().st_size
            digest.update(f"{file.relative_to(self.tables_dir)}:{size}\n".encode())
            with file.open("rb") as handle:
                handle.seek(max(0, size - 65_536))
                digest.update(handle.read())
        return digest.hexdigest()

    def _table_files(self) -> list[Path]:
        """Every file of `tables/`, but for those that are still being written."""
        files = (file for file in self.tables_dir.rglob("*") if file.is_file())
        return sorted(
            f for f in files if not any(part.startswith(".") for part in f.relative_to(self.tables_dir).parts)
        )
