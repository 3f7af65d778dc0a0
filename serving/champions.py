"""The champions: fetched, verified, asked their stored examples, and only then put in the place of the old ones."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from data.errors import AttuneError, ModelFileError
from data.workspace import Workspace
from models.kinds import load_answering
from models.offers import OfferModel
from models.recommenders import Recommender
from models.stored import StoredPropensity
from models.timing import Timing
from models.worth import CustomerValue
from registry.versions import CHAMPION, Registry

log = logging.getLogger("attune")

RECOMMENDER, VALUE, SEND_TIME, OFFERS, VARIANTS = "recommender", "value", "send-time", "offers", "variants"
PROPENSITY = "propensity-"
RETRY_REFUSED_SECONDS = 60.0
SQLITE = "sqlite:///"


@dataclass(frozen=True, eq=False)
class Champion:
    """A version that is in force.

    Attributes:
        name: Registered model.
        number: Of the version.
        model: What answers.
        exclude_seen: Of a recommender: whether what somebody had before is left out.
        fitted_until: Just after what it learnt from; None where its card does not say.
        horizon_days: How far a propensity or a value looks; over how many days hours to send at, and offers, were
            judged.
    """

    name: str
    number: int
    model: Recommender | StoredPropensity | CustomerValue | Timing | OfferModel
    exclude_seen: bool = True
    fitted_until: datetime | None = None
    horizon_days: int = 1

    def __str__(self) -> str:
        return f"{self.name} {self.number}"


class Champions:
    """Which version of each model is in force. `refresh` blocks; reading is one reference.

    Attributes:
        current: By registered name; replaced as a whole, never changed.
        troubles: By registered name, why the champion of the registry is not in force.
        refusals: How often a version was refused.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._registry = Registry.of(workspace)
        self._workspace, self._folder = workspace.path, workspace.models_dir
        labels = (f"{PROPENSITY}{label}" for label in workspace.settings.propensity)
        self._names = (RECOMMENDER, *labels, VALUE, SEND_TIME, OFFERS, VARIANTS)
        self._file = Path(uri.removeprefix(SQLITE)) if (uri := workspace.registry_uri).startswith(SQLITE) else None
        self._looked_at: tuple[int, int] | None = None
        self._refused: dict[str, tuple[int, float]] = {}
        self.current: Mapping[str, Champion] = {}
        self.troubles: Mapping[str, str] = {}
        self.refusals = 0

    def refresh(self) -> bool:
        """Look at every champion alias; whether anything changed. A broken version leaves the old one in force."""
        stamp = self._stamp()
        retry = any(time.monotonic() >= again for _, again in self._refused.values())
        if stamp is not None and stamp == self._looked_at and not retry:
            return False
        current, troubles = dict(self.current), dict(self.troubles)
        for name in self._names:
            try:
                self._refresh(name, current, troubles)
            except Exception as error:  # noqa: BLE001 - a registry that is away must not take the service along
                stamp = None
                told = f"The registry does not tell the champion of {name}; the log tells why ({type(error).__name__})."
                if troubles.get(name) != told:
                    log.warning("%s %s", told, error)
                troubles[name] = told
        changed = current != self.current
        self.current, self.troubles, self._looked_at = current, troubles, stamp
        return changed

    def _stamp(self) -> tuple[int, int] | None:
        """Size and time of a registry that is a file: asking MLflow costs 15 ms a model, looking at a file nothing."""
        if self._file is None or not self._file.is_file():
            return None
        found = self._file.stat()
        return found.st_mtime_ns, found.st_size

    def _refresh(self, name: str, current: dict[str, Champion], troubles: dict[str, str]) -> None:
        version = self._registry.version(name, CHAMPION)
        old = current.get(name)
        refused, again = self._refused.pop(name, (0, 0.0))
        if version is None:
            current.pop(name, None)
            troubles[name] = f"{name} has no champion. Train one with `attune train` and promote it."
            return
        if old is not None and old.number == version.number:
            troubles.pop(name, None)
            return
        if refused == version.number and time.monotonic() < again:
            self._refused[name] = refused, again
            return
        try:
            current[name] = load_champion(name, version.number, self._registry.fetch(version, self._folder))
            troubles.pop(name, None)
            log.info("%s is in force", version)
        except AttuneError as error:
            self._refused[name] = version.number, time.monotonic() + RETRY_REFUSED_SECONDS
            self.refusals += 1
            troubles[name] = str(error).replace(f"{self._workspace}/", "")  # apps are told of it
            log.error("%s is refused, %s stays: %s", version, old or "the fallback", error)  # noqa: TRY400


def load_champion(name: str, number: int, folder: Path) -> Champion:
    """A version from its folder, if it answers its stored examples as when it was saved.

    Raises:
        ModelFileError: it does not, or a file is damaged.
    """
    model = load_answering(name, folder)
    try:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        until = card.get("fitted_until")
        return Champion(
            name,
            number,
            model,
            exclude_seen=bool(card.get("exclude_seen", True)),
            fitted_until=datetime.fromisoformat(until) if until else None,
            horizon_days=int(card.get("horizon_days", 1)),
        )
    except (OSError, ValueError, TypeError) as error:
        raise ModelFileError(f"{folder} is damaged: {error}. Train anew with `attune train`.") from error
