"""The Bento asks for what pyproject.toml says that serving needs, as pinned in constraints.txt."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_bento_asks_for_what_serving_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["serve"]]
    names = {re.match(r"[\w.-]+", requirement).group().lower() for requirement in needed}
    pins = pinned("constraints.txt")
    assert pinned("serving/requirements.txt") == {name: pins[name] for name in names}


def pinned(file):
    """Version by name, in lower case and with dashes."""
    found = re.findall(r"^([\w.-]+)(?:\[\w+\])?==([\w.]+)", (ROOT / file).read_text(), re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in found}
