"""The formats that a user can choose: their names, and which encoder writes them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from django.utils.translation import gettext_lazy as _

from upstream.streaming import Csv, Json, JsonLines
from upstream.streaming.encoders.protocol import Encoder

Profile = Literal["data", "excel"]
PROFILES: tuple[Profile, ...] = get_args(Profile)


@dataclass(frozen=True, slots=True)
class Format:
    """One format: `name` stands in URLs and is the suffix of files, `label` is for people, and may be lazy.

    `for_people` is the encoder of the profile "excel", where the format has one.
    """

    name: str
    label: Any
    encoder: Encoder
    for_people: Encoder | None = None

    @property
    def media_type(self) -> str:
        """The content type without its parameters, as an Accept header names it."""
        return self.encoder.content_type.partition(";")[0]

    def encoder_for(self, profile: Profile) -> Encoder:
        """Return the encoder of a profile."""
        return self.for_people if self.for_people and profile == "excel" else self.encoder


FORMATS: Mapping[str, Format] = {
    known.name: known
    for known in (
        Format("csv", "CSV", Csv(), Csv(profile="excel")),
        Format("tsv", _("TSV, separated by tabs"), Csv(delimiter="\t"), Csv(delimiter="\t", profile="excel")),
        Format("json", "JSON", Json()),
        Format("ndjson", _("NDJSON, one object a line"), JsonLines()),
    )
}


def by_name(formats: Iterable[str | Format]) -> dict[str, Format]:
    """Return formats by their names; a string is one of those that come with the package."""
    resolved = [FORMATS[one] if isinstance(one, str) else one for one in formats]
    return {one.name: one for one in resolved}
