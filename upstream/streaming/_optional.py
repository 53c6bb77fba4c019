from importlib import import_module
from types import ModuleType

from upstream.streaming.errors import MissingDependencyError


def optional(module: str, extra: str) -> ModuleType:
    """Import an optional module, or raise MissingDependencyError with the command that installs it.

    OSError counts too: WeasyPrint raises it where the system lacks Pango.
    """
    try:
        return import_module(module)
    except (ImportError, OSError) as error:
        raise MissingDependencyError(
            f"{module} cannot be loaded ({error}): python -m pip install 'upstream[{extra}]'"
        ) from error
