"""Views whose exports are made in the background."""

import os
from pathlib import Path
from time import sleep

from asgiref.sync import sync_to_async
from django.contrib import admin
from django.core.exceptions import BadRequest
from django.http import Http404, HttpResponse
from django.urls import include, path
from django.utils.timezone import get_current_timezone_name
from django.utils.translation import get_language

from upstream.integrations.downloads import download
from upstream.integrations.limits import Limits
from upstream.integrations.views import ExportView
from upstream.models import Customer
from upstream.streaming import Column, Csv

CANARY = "canary-7f3a"


def _circumstances():
    return f"{get_language()} {get_current_timezone_name()}"


def _slowly(row):
    sleep(0.002)
    return row.name


def _through_gate(row):
    gate = Path(os.environ["BACKGROUND_GATE"])
    gate.with_suffix(".reached").touch()
    while not gate.exists():
        sleep(0.003)
    return row.name


class Customers(ExportView):
    queryset = Customer.objects.order_by("pk")
    columns = ("id", "name")
    ordering_fields = ("id", "name")
    filter_fields = {"name": "name__icontains"}


class Own(Customers):
    """The customers of the user."""

    permission = None

    def get_queryset(self):
        return Customer.objects.filter(users=self.request.user).order_by("pk")


class Slow(Customers):
    """Takes two thousandths of a second for each row."""

    columns = ("id", Column(_slowly, header="name"))


class Waiting(Customers):
    """Waits at its third row until the file in BACKGROUND_GATE is there; says in another that it waits."""

    columns = ("id", Column(_through_gate, header="name"))


class Uncountable(Customers):
    """Of PostgreSQL: counting its rows takes minutes."""

    queryset = Customer.objects.extra(where=["pg_sleep(60) IS NOT NULL"]).order_by("pk")
    limits = Limits(rows=100)


class Broken(Customers):
    columns = ("id", Column(lambda row: int(f"{CANARY} {row.name}"), header="number"))


class Hinted(Customers):
    """Shows what holds while an export is made."""

    columns = ("id", Column(lambda _: _circumstances(), header="what holds"))


def strings(request):
    """A view of one's own, which needs no permission and no model."""
    rows = ({"number": number, "text": "ß"} for number in range(3))
    return download(request, rows, None, Csv(), "strings.csv", sender=ExportView, is_repeatable=True)


async def asynchronous(request):
    return await sync_to_async(strings)(request)


refusals = []


def refusing(request, how):
    """Refuse a request once `refusals` is not empty."""
    if not refusals:
        return strings(request)
    errors = {"gone": Http404, "invalid": BadRequest}
    if how in errors:
        raise errors[how](CANARY)
    return HttpResponse(CANARY, status=int(how))


urlpatterns = [
    path("customers/", Customers.as_view()),
    path("own/", Own.as_view()),
    path("slow/", Slow.as_view()),
    path("uncountable/", Uncountable.as_view()),
    path("waiting/", Waiting.as_view()),
    path("broken/", Broken.as_view()),
    path("hinted/", Hinted.as_view()),
    path("strings/ß/", strings),
    path("asynchronous/", asynchronous),
    path("refusing/<how>/", refusing),
    path("admin/", admin.site.urls),
    path("api/", include("upstream.api")),
]
