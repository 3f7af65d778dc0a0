"""`python -m data.erasing WORKSPACE` clears the files of who left the state: the service starts it beside itself."""

import sys
from pathlib import Path

from data.erasing import finish
from data.state import State
from data.workspace import Workspace

if __name__ == "__main__":
    opened = Workspace(Path(sys.argv[1]))
    finish(opened, State.of(opened))
