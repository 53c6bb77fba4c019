"""The columns of a changelist as columns of an export."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from html import unescape
from itertools import count
from typing import Any

from django.contrib.admin.utils import label_for_field
from django.core.exceptions import ObjectDoesNotExist
from django.utils.html import strip_tags
from django.utils.text import capfirst

from upstream.integrations.choices import name_of, slug_of
from upstream.integrations.permissions import has_permission, view_permission
from upstream.streaming import Column
from upstream.streaming.sources.model_columns import field_named


@dataclass(frozen=True, slots=True)
class ListColumn:
    """A column that users choose by `name` and see as `label`.

    `models` are the other models that it shows. `relation` is the relation that it shows as text; the query has to
    fetch it with the rows.
    """

    name: str
    label: str
    column: Column
    models: tuple[Any, ...] = ()
    relation: str | None = None

    def is_allowed(self, user: Any) -> bool:
        """Whether the user may view the other models that the column shows."""
        return all(has_permission(user, view_permission(model)) for model in self.models)


def list_columns(model_admin: Any, names: Iterable[Any], *, labelled: bool) -> dict[str, ListColumn]:
    """Return the columns for Columns and for entries as in `list_display`, by name.

    The header is the name or, with `labelled`, the label that the list shows; a Column keeps its own. A foreign
    key is written as the text of its row, HTML without its tags.
    """
    found: dict[str, ListColumn] = {}
    for name in names:
        column = _list_column(model_admin, name, labelled=labelled)
        numbered = (f"{column.name}-{number}" for number in count(2))
        key = column.name if column.name not in found else next(one for one in numbered if one not in found)
        found[key] = replace(column, name=key)
    return found


def _list_column(model_admin: Any, name: Any, *, labelled: bool) -> ListColumn:
    model = model_admin.model
    if isinstance(name, Column):
        return ListColumn(name_of(name), str(name.header), name, _models_along(model, name.name or ""))
    label = capfirst(" ".join(str(label_for_field(name, model, model_admin)).split()))
    key = _key(name, model, label)
    header = label if labelled else key
    field = _field(model, name)
    if field is not None:
        if not field.is_relation or name != field.name:  # the key alone, such as customer_id
            return ListColumn(key, label, Column(name, header))
        accessor = name if field.concrete else field.get_accessor_name()
        text = _as_text(lambda row: related if (related := getattr(row, accessor)) is None else str(related))
        return ListColumn(key, label, Column(text, header), (field.related_model,), relation=name)
    if compute := _computed(model_admin, name):
        return ListColumn(key, label, Column(_as_text(compute), header))
    if models := _models_along(model, name):
        return ListColumn(key, label, Column(name, header), models)
    return ListColumn(key, label, Column(name, header, _without_tags))


def _key(name: Any, model: Any, label: str) -> str:
    if name == "__str__":
        return str(model._meta.model_name)
    text = name if isinstance(name, str) else getattr(name, "__name__", "")
    return text if text.isidentifier() else slug_of(label)


def _field(model: Any, name: Any) -> Any:
    """Return the field or relation of that name; None if there is none, or if it is a generic foreign key."""
    field = field_named(model, name) if isinstance(name, str) else None
    return None if field and field.is_relation and field.related_model is None else field


def _computed(model_admin: Any, name: Any) -> Callable[[Any], Any] | None:
    """Return the function that the list calls for a row under this name, unless it is the model's own."""
    if name == "__str__":
        return str
    found = name if callable(name) else getattr(model_admin, name, None)
    return found if callable(found) else None


def _models_along(model: Any, name: str) -> tuple[Any, ...]:
    """Return the models along the path `name`, in order."""
    models: list[Any] = []
    for part in name.split("__")[:-1]:
        field = _field(model, part)
        if field is None or not field.is_relation:
            break
        model = field.related_model
        models.append(model)
    return tuple(models)


def _as_text(compute: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(row: Any) -> Any:
        try:
            return _without_tags(compute(row))
        except ObjectDoesNotExist:  # the list shows an empty cell too
            return None

    return read


def _without_tags(value: Any) -> Any:
    return unescape(strip_tags(value)) if hasattr(value, "__html__") else value
