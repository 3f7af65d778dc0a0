"""The Bento asks for what pyproject.toml says that serving needs, as pinned in constraints.txt."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_bento_asks_for_what_serving_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["serve"]]
    names = {re.match(r"[\w.-]+", requirement).group() for requirement in needed}
    pins = dict(re.findall(r"^([\w.-]+)(?:\[\w+\])?==([\w.]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    asked = re.findall(
        r"^([\w.-]+)(?:\[\w+\])?==([\w.]+)$", (ROOT / "serving/requirements.txt").read_text(), re.MULTILINE
    )
    assert dict(asked) == {name: pins[name] for name in names}
