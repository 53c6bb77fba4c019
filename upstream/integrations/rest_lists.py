"""The overridden methods of a REST framework list, which may show less than its rows and its serializer say.

An export reads the rows without these methods. Needs the extra `upstream[drf]`.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from copy import copy
from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict

from upstream.integrations.stock import overridden
from upstream.streaming._optional import optional

BrowsableAPIRenderer: Any = optional("rest_framework.renderers", "drf").BrowsableAPIRenderer

# Where a view's methods are defined that only call the next: our mixin's, and what describes a schema.
PASSING = ("upstream.integrations.drf", "drf_spectacular.drainage")
NAMES = frozenset(
    {"list", "get", "paginate_queryset", "get_paginated_response", "finalize_response", "page", "_get_page"}
    | {"render", "to_representation", "data", "__iter__", "_fetch_all"}
)


def overridden_method(view: Any, renderers: Iterable[Any], unchanged: Collection[str]) -> str | None:
    """Return the first method of a view, its paginator and its renderers that may change the list; else None.

    `renderers` are those that show the list; it is enough if one of them is REST framework's own. Names in
    `unchanged` are not looked at.
    """
    handler = getattr(view, "action", None) or "get"
    found = _first(view, ("list", handler, "paginate_queryset", "finalize_response"), unchanged)
    return found or _paginating(view, unchanged) or _rendering(renderers, unchanged)


def overridden_rows(many: Any, unchanged: Collection[str]) -> str | None:
    """Return the first method of a list serializer, or of its queryset, that may change rows; else None."""
    if "_data" in vars(many) and "data" not in unchanged:
        return f"{type(many).__name__}.data"
    found = _first(many, ("to_representation", "data"), unchanged)
    if found or not isinstance(many.instance, QuerySet):
        return found
    return _first(many.instance, ("__iter__", "_fetch_all"), unchanged, "django.db")


def _first(
    one: Any, names: Iterable[str], unchanged: Collection[str], package: str = "rest_framework"
) -> str | None:
    name = overridden(one, [name for name in names if name not in unchanged], package, passing=PASSING)
    kind = one if isinstance(one, type) else type(one)
    return f"{kind.__name__}.{name}()" if name else None


def _paginating(view: Any, unchanged: Collection[str]) -> str | None:
    paginator = getattr(view, "paginator", None)
    if paginator is None:
        return None
    if found := _first(paginator, ["paginate_queryset"], unchanged):
        return found
    pages = getattr(paginator, "django_paginator_class", None)
    if pages and (found := _first(pages, ("page", "_get_page"), unchanged, "django.core.paginator")):
        return found
    found = _first(view, ["get_paginated_response"], unchanged)
    found = found or _first(paginator, ["get_paginated_response"], unchanged)
    return None if found is None or _keeps_rows(view) else found


def _rendering(renderers: Iterable[Any], unchanged: Collection[str]) -> str | None:
    """Return the first own method to render, if all renderers have one; the page for browsers shows another's."""
    data = [one for one in renderers if not isinstance(one, BrowsableAPIRenderer)]
    found = [_first(one, ["render"], unchanged) for one in data]
    return found[0] if found and all(found) else None


class _LookedError(Exception):
    """Somebody looked into rows that should only be passed on."""


def _look(*_: Any) -> Any:
    raise _LookedError


LOOKING = (
    *(
        "__iter__",
        "__reversed__",
        "__contains__",
        "__getitem__",
        "__setitem__",
        "__delitem__",
        "__eq__",
        "__add__",
    ),
    *("append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort"),
)
_Unseen: Any = type("_Unseen", (list,), dict.fromkeys(LOOKING, _look))


def _keeps_rows(view: Any) -> bool:
    """Whether the view's get_paginated_response() puts the rows into its envelope without looking into them.

    It is tried on a copy of the view, with a page of no rows, which asks the database nothing.
    """
    tried, rows = copy(view), _Unseen([None])
    tried.request = copy(view.request)
    tried.request._request = copy(view.request._request)  # noqa: SLF001 (REST framework has no public name for it)
    tried.request._request.GET = QueryDict()  # noqa: SLF001
    tried._paginator = copy(view.paginator)  # noqa: SLF001
    try:
        listed = view.get_queryset()
        if tried.paginate_queryset(listed.none() if isinstance(listed, QuerySet) else []) is None:
            return True
        return any(found is rows for found in _values(tried.get_paginated_response(rows).data))
    except Exception:  # noqa: BLE001 (whatever it is, nothing is proven)
        return False


def _values(data: Any) -> Iterator[Any]:
    """Yield the values in mappings of mappings."""
    if isinstance(data, Mapping):
        for value in data.values():
            yield from _values(value)
    else:
        yield data
