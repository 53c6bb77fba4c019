"""The form in which users of the admin choose an export."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from upstream.integrations.formats import Format

PROFILE_CHOICES = (
    ("excel", _("Spreadsheet: labels, words and times as in the list, and no text that runs as a formula")),
    ("data", _("Data: field names as headers, and every value unchanged")),
)


BACKGROUND_CHOICES = (
    ("", _("As a download, or in the background if it is large")),
    ("0", _("As a download")),
    ("1", _("In the background")),
)


class ExportForm(forms.Form):
    """Format, profile and columns of an export, and how it comes; at first all columns are chosen."""

    format = forms.ChoiceField(label=_("Format"), widget=forms.RadioSelect)
    profile = forms.ChoiceField(
        label=_("Profile"),
        choices=PROFILE_CHOICES,
        widget=forms.RadioSelect,
    )
    columns = forms.MultipleChoiceField(
        label=_("Columns"),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": _("Choose at least one column.")},
    )

    export_background = forms.ChoiceField(
        label=_("Delivery"),
        choices=BACKGROUND_CHOICES,
        widget=forms.RadioSelect,
        required=False,
    )

    def __init__(
        self,
        *args: Any,
        formats: Iterable[Format],
        columns: Iterable[tuple[str, str]],
        has_background: bool = False,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        if not has_background:
            del self.fields["export_background"]
        offered, listed = list(formats), list(columns)
        self._choose("format", [(one.name, one.label) for one in offered], offered[0].name)
        self._choose("columns", listed, [name for name, _label in listed])
        if always_data := [str(one.label) for one in offered if one.for_people is None]:
            self.fields["profile"].help_text = _("Always data: %(formats)s") % {"formats": "; ".join(always_data)}

    @property
    def has_columns(self) -> bool:
        """Whether there is a column to choose."""
        columns: Any = self.fields["columns"]
        return bool(columns.choices)

    def _choose(self, name: str, choices: list[tuple[str, Any]], initial: Any) -> None:
        field: Any = self.fields[name]
        field.choices, field.initial = choices, initial
