"""The application, and an export that a test holds up."""

import os
from functools import partial
from pathlib import Path
from time import sleep

from django.urls import include, path

from upstream.integrations.views import ExportView
from upstream.models import Customer
from upstream.streaming import Column


def _through(gate, row):
    while row.pk > int(gate.read_text()):
        sleep(0.01)
    return row.name


class Gated(ExportView):
    """Rows come as far as the number in the file that `?gate=` names, in the directory EXPORTS_GATES."""

    queryset = Customer.objects.order_by("pk")
    filename = "gated"

    def get(self, request, *args, **kwargs):
        request.GET = request.GET.copy()
        [name] = request.GET.pop("gate")
        self.gate = Path(os.environ["EXPORTS_GATES"]) / name
        return super().get(request, *args, **kwargs)

    def get_export_columns(self):
        return ("id", Column(partial(_through, self.gate), header="name"))


urlpatterns = [path("gated/", Gated.as_view()), path("", include("upstream.urls"))]
