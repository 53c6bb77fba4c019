"""The formats that users choose from: their names, and the encoder that writes each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib.util import find_spec
from pathlib import PurePath
from typing import Any, Literal, get_args

from django.utils.text import capfirst
from django.utils.timezone import get_current_timezone
from django.utils.translation import get_language, get_language_bidi
from django.utils.translation import gettext_lazy as _

from upstream.streaming import Csv, Json, JsonLines, Parquet, Pdf, Xlsx
from upstream.streaming.encoders.protocol import Encoder

Profile = Literal["data", "excel"]
PROFILES: tuple[Profile, ...] = get_args(Profile)


@dataclass(frozen=True, slots=True)
class Format:
    """A format as users see it: `name` stands in URLs, `label` on pages; the label may be translated lazily.

    `for_people` is the encoder for the profile "excel", if the format has one. File names end with the encoder's
    suffix; those with one of `other_suffixes` are recognized too. A format is offered only if the module that it
    `requires` is installed. Unless it is `localized`, its encoders are used as they are.
    """

    name: str
    label: Any
    encoder: Encoder
    for_people: Encoder | None = None
    other_suffixes: tuple[str, ...] = ()
    requires: str = ""
    localized: bool = True

    @property
    def is_available(self) -> bool:
        """Whether the module that it `requires` is installed."""
        return not self.requires or find_spec(self.requires) is not None

    @property
    def media_type(self) -> str:
        """The content type without its parameters, as in an Accept header."""
        return self.encoder.content_type.partition(";")[0]

    def is_for_people(self, profile: Profile) -> bool:
        """Whether the profile is for people, and the format has an encoder for them."""
        return profile == "excel" and self.for_people is not None

    def encoder_for(self, profile: Profile, source: Any = None) -> Encoder:
        """Return the encoder for a profile; the one for people writes moments as in the current time zone.

        A document has the name of the model of `source` as its title, in the current language, which is also that
        of its own words; where that is written from right to left, so are columns. These are options of the
        encoder, such as `title`; those that differ from their defaults stay, and all if it is not `localized`.
        """
        is_for_people = self.is_for_people(profile)
        encoder: Any = self.for_people if is_for_people else self.encoder
        if not self.localized:
            return encoder  # type: ignore[no-any-return]
        options = _document(source)
        if is_for_people and getattr(encoder, "profile", "excel") != "data":
            options |= _local()
        named: Encoder = _with_defaults(encoder, options)
        return named

    def filename(self, source: Any, stem: str = "") -> str:
        """Return a file name: `stem`, by default the model name of `source`, and the suffix of the encoder."""
        model = getattr(source, "model", None)
        return (stem or (model._meta.model_name if model else "export")) + self.encoder.suffix


# A new format needs one line here, and nothing anywhere else.
FORMATS: Mapping[str, Format] = {
    known.name: known
    for known in (
        Format("csv", "CSV", Csv(), Csv(profile="excel")),
        Format("tsv", _("TSV, separated by tabs"), Csv(delimiter="\t"), Csv(delimiter="\t", profile="excel")),
        Format("json", "JSON", Json()),
        Format("ndjson", _("NDJSON, one object per line"), JsonLines(), other_suffixes=(".jsonl",)),
        Format("xlsx", "Excel", Xlsx(), Xlsx(long_texts="cut")),
        Format("parquet", "Parquet", Parquet(), requires="pyarrow"),
        Format("pdf", "PDF", Pdf(), Pdf(), requires="uharfbuzz"),
    )
    if known.is_available
}


def by_name(formats: Iterable[str | Format]) -> dict[str, Format]:
    """Return formats by name; strings are names in FORMATS."""
    resolved = [FORMATS[one] if isinstance(one, str) else one for one in formats]
    return {one.name: one for one in resolved}


def format_of(path: PurePath) -> Format | None:
    """Return the first format with the suffix of `path`, or None."""
    return next((known for known in FORMATS.values() if path.suffix in _suffixes(known)), None)


def _local() -> dict[str, Any]:
    """Return options for moments of the current time zone, in a form that spreadsheets know."""
    return {"time_zone": get_current_timezone(), "datetime_format": "%Y-%m-%d %H:%M:%S"}


def _document(source: Any) -> dict[str, Any]:
    """Return options for what a document says besides its rows."""
    model = getattr(source, "model", None)
    return {
        "title": capfirst(str(model._meta.verbose_name_plural)) if model else "",
        "language": get_language() or "",
        "right_to_left": get_language_bidi(),
        "page_label": str(_("Page {page} of {pages}")),
        "empty_text": str(_("No rows")),
    }


def _with_defaults(encoder: Any, options: Mapping[str, Any]) -> Any:
    """Return the encoder with those of the options that it knows, and has left at their defaults."""
    known = fields(encoder) if is_dataclass(encoder) else ()
    unset = {
        one.name for one in known if one.init and one.name in options and getattr(encoder, one.name) == one.default
    }
    return replace(encoder, **{name: options[name] for name in unset}) if unset else encoder


def _suffixes(known: Format) -> tuple[str, ...]:
    return (known.encoder.suffix, *known.other_suffixes)
