"""The site that the servers serve."""

import os

from django.http import HttpRequest, HttpResponse
from django.urls import path

from benchmarks.table.models import Payment
from benchmarks.table.rows import COLUMNS
from upstream.integrations.views import ExportView


def worker(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(os.getpid()))


class Payments(ExportView):
    model = Payment
    columns = COLUMNS
    permission = None


urlpatterns = [path("worker", worker), path("payments", Payments.as_view())]
