from importlib import import_module
from types import ModuleType

from upstream.streaming.errors import MissingDependencyError


def optional(module: str, extra: str) -> ModuleType:
    """Import an optional module, or raise MissingDependencyError with the install command.

    OSError is caught too: WeasyPrint raises it if Pango is missing.
    """
    try:
        return import_module(module)
    except (ImportError, OSError) as error:
        raise MissingDependencyError(
            f"{module} cannot be imported ({error}): python -m pip install 'upstream[{extra}]'"
        ) from error
