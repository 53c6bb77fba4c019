"""The site that the servers serve."""

import os

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import path

from benchmarks.table.models import Payment
from benchmarks.table.rows import COLUMNS
from upstream.streaming import Csv, stream, to_response


def worker(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(os.getpid()))


def payments(_request: HttpRequest) -> HttpResponseBase:
    return to_response(stream(Payment.objects.all(), COLUMNS, Csv()), "payments.csv")


urlpatterns = [path("worker", worker), path("payments.csv", payments)]
