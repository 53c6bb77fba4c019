"""What narrows a changelist, in the words of its sidebar."""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from django.utils.formats import date_format
from django.utils.text import capfirst
from django.utils.translation import gettext

from upstream.integrations.labels import label_of, text_of_label
from upstream.streaming.sources.model_columns import field_named

# How the formats of Django's settings call a date by its parts.
DATE_PARTS = {
    ("year",): "Y",
    ("year", "month"): "YEAR_MONTH_FORMAT",
    ("year", "month", "day"): "DATE_FORMAT",
}


def narrowed_by(changelist: Any) -> list[tuple[str, str]]:
    """Return the search, the filters and the lookups of a changelist's URL: what each is called, and its value.

    A filter of the sidebar has its title and the words of the chosen link, one that applies by default too.
    """
    given = changelist.get_filters_params()
    search = [(gettext("Search"), changelist.query)] if changelist.query else []
    return [*search, *_by_sidebar(changelist, given), *_by_date(changelist, given), *_by_lookup(changelist, given)]


def _by_sidebar(changelist: Any, given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    changelist.add_facets = False  # which would be counted, and stand in the words
    everything = (gettext("All"), gettext("Any date"))
    for one in changelist.filter_specs:
        names = [name for name in one.expected_parameters() if name in given]
        links = [text_of_label(link["display"]) for link in one.choices(changelist) if link["selected"]]
        words = [link for link in links if names or link not in everything]
        if words:
            yield capfirst(text_of_label(one.title)), ", ".join(words)
            for name in names:
                del given[name]


def _by_date(changelist: Any, given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the period of the list's hierarchy of dates."""
    field = changelist.date_hierarchy
    parts = tuple(part for part in ("year", "month", "day") if f"{field}__{part}" in given)
    if parts in DATE_PARTS:
        numbers = [int(given.pop(f"{field}__{part}")[-1]) for part in parts]
        first = date(*[*numbers, 1, 1][:3])
        yield label_of(field, changelist.model), date_format(first, DATE_PARTS[parts])


def _by_lookup(changelist: Any, given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, values in given.items():
        parts = name.split("__")
        fields = _fields_along(changelist.model, parts)
        lookups = [lookup for lookup in parts[len(fields) :] if lookup != "exact"]
        label = label_of("__".join(parts[: len(fields)]) or name, changelist.model)
        labels = (
            {str(value): str(text) for value, text in getattr(fields[-1], "flatchoices", ())} if fields else {}
        )
        texts = [text for value in values for text in (value.split(",") if lookups == ["in"] else [value])]
        words = ", ".join(labels.get(text, text) for text in texts)
        yield f"{label} ({' '.join(lookups)})" if lookups and fields else label, words


def _fields_along(model: Any, parts: Sequence[str]) -> list[Any]:
    fields: list[Any] = []
    for part in parts:
        field = field_named(model, part) if model else None
        if field is None:
            break
        fields.append(field)
        model = field.related_model
    return fields
