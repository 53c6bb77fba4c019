"""The columns of a changelist as columns of an export."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Model
from django.db.models.signals import post_init

from upstream.integrations.choices import Columns, name_of, slug_of
from upstream.integrations.html_text import text_of
from upstream.integrations.labels import label_of
from upstream.integrations.permissions import MissingPermissionError, may_view, view_permission
from upstream.integrations.shown import Shown, as_shown, computed_as_shown
from upstream.integrations.shown_models import shown_by_name, shown_by_text
from upstream.streaming import Column, ColumnError
from upstream.streaming.columns import with_headers
from upstream.streaming.sources.model_columns import ModelColumn, field_named, find
from upstream.streaming.sources.orm import annotations

# A cell of HTML has several lines in a spreadsheet, and one where each line of the file is a record.
LINE_BREAKS = {True: "\n", False: "; "}


@dataclass(frozen=True, slots=True)
class ListColumn:
    """A column that users choose by `name` and see as `label`.

    `models` are the other models that it shows. `relation` is the path of relations that it reads; the query has
    to fetch them with the rows.
    """

    name: str
    label: str
    column: Column
    models: tuple[Any, ...] = ()
    relation: str | None = None

    def is_allowed(self, user: Any) -> bool:
        """Whether the user may view the other models that the column shows."""
        return all(may_view(user, model) for model in self.models)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListReader:
    """Finds the columns of an export by a `user` from the list of a model admin, whose rows are those of `query`.

    For people (`for_people`) headers are the labels of the list, and values are written as the list words them.
    Otherwise headers are names, and values are data. In both, a foreign key is the text of its row, and HTML is
    its text.
    """

    model_admin: Any
    query: Any
    user: Any
    for_people: bool

    def columns(self, names: Columns) -> dict[str, ListColumn]:
        """Return the columns for Columns and for entries as in `list_display`, by name.

        A mapping gives the names; otherwise they are made of the entries.
        """
        if isinstance(names, Mapping):
            columns = map(self._column, with_headers(names.values()))
            return {name: replace(column, name=name) for name, column in zip(names, columns, strict=True)}
        found: dict[str, ListColumn] = {}
        for entry in with_headers(names):
            column = self._column(entry)
            numbered = (f"{column.name}-{number}" for number in count(2))
            key = column.name if column.name not in found else next(one for one in numbered if one not in found)
            found[key] = replace(column, name=key)
        return found

    def _column(self, entry: Any) -> ListColumn:
        return self._of_column(entry) if isinstance(entry, Column) else self._of_entry(entry)

    def _of_column(self, column: Column) -> ListColumn:
        """Return a Column of the author's own: its header and its `value` stay."""
        if column.name is None:
            return ListColumn(name_of(column), str(column.header), column)
        label = str(column.header) if column.header != column.name else self._label(column.name)
        header = label if self.for_people else str(column.header)
        if column.value:
            return self._by_name(column.name, label, replace(column, header=header))
        shown = self._as_shown(replace(column, header=header), is_text=self.for_people)
        return self._by_name(column.name, label, shown)

    def _of_entry(self, name: Any) -> ListColumn:
        model, label = self._model, self._label(name)
        key = _key(name, model, label)
        header = label if self.for_people else key
        field = field_named(model, name) if isinstance(name, str) else None
        leads_to_many = field is not None and (field.one_to_many or field.many_to_many)
        if field is not None and field.is_relation and name == field.name and not leads_to_many:
            accessor = name if field.concrete or not field.related_model else field.get_accessor_name()
            text = self._computed(lambda row: None if (found := getattr(row, accessor)) is None else str(found))
            return ListColumn(key, label, Column(text, header), shown_by_text(model, field), relation=name)
        compute = None if field is not None else _computed(self.model_admin, name)
        if compute:
            return ListColumn(key, label, Column(self._computed(compute), header))
        return replace(self._by_name(name, label, self._as_shown(Column(name, header), is_text=True)), name=key)

    def _by_name(self, name: str, label: str, column: Column) -> ListColumn:
        models = shown_by_name(self._model, name, self.query)
        found = self._find(column)
        if found is None or found.annotated or found.many or not _is_made_by_instances(self._model, *models):
            return ListColumn(name, label, column, models)
        # The field is left out: the database's own text of it is not what the instance has.
        read = replace(found, field=None).reader()
        value = column.value
        own = Column(read if value is None else lambda row: value(read(row)), column.header)
        return ListColumn(name, label, own, models, found.query_path or None)

    def _as_shown(self, column: Column, *, is_text: bool) -> Column:
        """Return a column with its values as the profile has them; with `is_text`, HTML of a property is text."""
        found = self._find(column)
        if found is None:
            return column
        if found.many and self.for_people and column.join is None:
            column = replace(column, join=", ")
        end = found.end
        if end.field is None and not end.annotated:
            checked = self._refused_unless_viewed
            return replace(column, value=self._computed(checked) if is_text else checked)
        return replace(column, value=as_shown(end.field)) if self.for_people else column

    def _find(self, column: Column) -> ModelColumn | None:
        try:
            return find(column, self._model, annotations(self.query))
        except ColumnError:  # the export reports it
            return None

    def _refused_unless_viewed(self, value: Any) -> Any:
        """Return what a property of the model gave; it is refused if that is a row that the user may not view."""
        is_other = isinstance(value, Model) and not isinstance(value, self._model)
        if is_other and not may_view(self.user, type(value)):
            raise MissingPermissionError(view_permission(type(value)))
        return value

    def _computed(self, compute: Shown) -> Shown:
        """Return a function for the text that the list shows for what `compute` returns."""
        line_break, for_people = LINE_BREAKS[self.for_people], self.for_people

        def read(row: Any) -> Any:
            try:
                value = compute(row)
            except ObjectDoesNotExist:  # the list shows an empty cell too
                return None
            if hasattr(value, "__html__"):
                return text_of(value.__html__(), line_break=line_break)
            return computed_as_shown(value) if for_people else value

        return read

    def _label(self, name: Any) -> str:
        return label_of(name, self._model, self.model_admin)

    @property
    def _model(self) -> Any:
        return self.model_admin.model


def _key(name: Any, model: Any, label: str) -> str:
    if name == "__str__":
        return str(model._meta.model_name)
    text = name if isinstance(name, str) else getattr(name, "__name__", "")
    return text if text.isidentifier() else slug_of(label)


def _computed(model_admin: Any, name: Any) -> Callable[[Any], Any] | None:
    """Return the function that the list calls for a row under this name, unless it is the model's own."""
    if name == "__str__":
        return str
    found = name if callable(name) else getattr(model_admin, name, None)
    return found if callable(found) else None


def _is_made_by_instances(*models: Any) -> bool:
    """Whether code of one of the models may change values between the row and the instance that the list shows."""
    return any(
        getattr(model.from_db, "__func__", None) is not Model.from_db.__func__  # type: ignore[attr-defined]
        or model.__init__ is not Model.__init__
        or post_init.has_listeners(model)
        for model in models
    )
