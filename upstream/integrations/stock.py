"""Whether code is as its library ships it: what somebody overrode may show less than the library would."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from inspect import getattr_static
from types import FunctionType
from typing import Any

from django.db.models import Model
from django.db.models.signals import post_init, pre_init
from django.utils.functional import cached_property as django_cached_property

# What makes an instance of a model from a row, or gives its values.
READING = ("from_db", "__init__", "__getattribute__", "serializable_value")


def overridden(one: Any, names: Iterable[str], package: str, *, passing: Iterable[str] = ()) -> str | None:
    """Return the first of the names that `one`, an instance or a class, does not have from the package; else None.

    What an instance has of its own counts, and what was put in place of a library's method. Definitions in the
    modules `passing` only call the next one.
    """
    kind, own = (one, {}) if isinstance(one, type) else (type(one), getattr(one, "__dict__", {}))
    return next((name for name in names if name in own or not _is_from(kind, name, package, passing)), None)


def changed_methods(one: Any) -> list[str]:
    """Return the names of the methods that an instance has of its own, in place of those of its class."""
    return [name for name in vars(one) if isinstance(getattr_static(type(one), name, None), FunctionType)]


def gives_what_is_stored(model: type[Model], name: str) -> bool:
    """Whether instances have under this name, of a field or `pk`, what the database has for it."""
    if overridden(model, READING, "django.db") or post_init.has_listeners(model) or pre_init.has_listeners(model):
        return False
    found = getattr_static(model, name, None)
    return found is vars(Model)["pk"] or type(found).__module__.startswith("django.db.models.")


def _is_from(kind: type, name: str, package: str, passing: Iterable[str]) -> bool:
    """Whether the first definition along the classes that does not only pass calls on is the package's."""
    for found in (vars(one)[name] for one in kind.__mro__ if name in vars(one)):
        module = _module(found)
        if module in passing:
            continue
        return module == package or module.startswith(f"{package}.") or found is vars(object).get(name)
    return False


def _module(found: Any) -> str:
    """Return the module whose code runs; `wraps()` copies the name of another into `__module__`."""
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, cached_property | django_cached_property):
        found = found.func
    elif isinstance(found, classmethod | staticmethod):
        found = found.__func__
    names: Mapping[str, Any] = getattr(found, "__globals__", {})
    return str(names.get("__name__", ""))
