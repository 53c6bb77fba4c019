"""The seam to exports in the background: `upstream.jobs` uses it, and without that app it does nothing."""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from upstream.integrations.limits import Limits
from upstream.integrations.signals import Ending
from upstream.streaming import Column
from upstream.streaming.encoders.protocol import Encoder


@dataclass(frozen=True, kw_only=True)
class Export:
    """What a view answers a request with: the arguments of `download`. Nothing of `source` is read yet."""

    request: HttpRequest
    source: Any
    columns: Sequence[str | Column] | None
    encoder: Encoder
    filename: str
    sender: type
    limits: Limits
    spool: bool | None = None
    record: Callable[[], Callable[[Ending], None]] | None = None
    is_repeatable: bool = True
    """Whether the same request, sent again, makes the same export."""


PARAMETERS = ("export_background", "export_job")
"""Parameters of requests that an offer reads. Views that take only declared parameters take these too."""

Offer = Callable[[Export], HttpResponseBase | None]

receiving: ContextVar[Callable[[Export], None] | None] = ContextVar("receiving", default=None)
"""Whoever runs a view again for its export sets it: `download` gives the export to it, and makes no response."""

_offers: list[Offer] = []


def register(offer: Offer) -> None:
    """Have `offer` asked before each download; a response that it returns is sent instead of the download."""
    _offers[:] = [offer]


def is_offered() -> bool:
    """Whether exports can be made in the background on this site."""
    return bool(_offers)


def answer(export: Export) -> HttpResponseBase | None:
    """Return the response that offers an export in the background, or None to download it now."""
    return next((response for offer in _offers if (response := offer(export)) is not None), None)
