"""Settings that are a dict of options: the fields of a dataclass, of which some are numbers."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, TypeVar

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

Options = TypeVar("Options")


def of_site(kind: type[Options], setting: str, word: str) -> Options:
    """Return the options in a setting, each a `word`; raise ImproperlyConfigured for names that are none."""
    given = getattr(settings, setting, {})
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := set(given) - known:
        raise ImproperlyConfigured(
            f"unknown {word} {', '.join(map(repr, sorted(unknown)))} in {setting}; "
            f"choose from: {', '.join(sorted(known))}"
        )
    try:
        return kind(**given)
    except ImproperlyConfigured as error:
        raise ImproperlyConfigured(f"{error}, in {setting}") from error


def check_numbers(options: Any, names: Iterable[str]) -> None:
    """Raise ImproperlyConfigured unless each of these options is greater than 0, or None as by default."""
    for name in names:
        value = getattr(options, name)
        if value is None and getattr(type(options), name) is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise ImproperlyConfigured(f"{name} must be a number greater than 0, not {value!r}")
