"""Report runs, the files made of them, and who gets them each week."""

from pathlib import PurePath
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.files.storage import default_storage
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.generic import View

from upstream import access
from upstream.forms import ReportScheduleForm
from upstream.models import Customer, DriftEvent, ReportArtifact, ReportRun, ReportSchedule
from upstream.views.exports import DriftEventExport, ReportRunExport, offer
from upstream.views.pages import Page, Rows
from upstream.views.paging import keyset_page

LARGEST_EVENTS = 25


class ReportRuns(Page):
    """Report runs, those of the newest periods first, and the schedule of a customer."""

    template_name = "upstream/reports.html"
    section = "reports"
    title = "Reports"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        rows = self.of_customer(self.rows(ReportRun))
        related = rows.prefetch_related("customer", "artifacts")
        user, customer = self.request.user, self.customer
        page = keyset_page(related, "period_end", self.request.GET)
        return super().get_context_data(
            page=page,
            offer=offer(self.request, ReportRunExport, rows, self.customer_parameter, page.count),
            sees_schedule=customer and access.may_with(user, customer, ReportSchedule),
            changes_schedule=customer and access.may_with(user, customer, ReportSchedule, "change"),
            schedule=self.of_customer(self.rows(ReportSchedule)).first() if customer else None,
            **kwargs,
        )


class ReportRunPage(Page):
    """One report run: its files and the drift it found."""

    template_name = "upstream/report.html"
    section = "reports"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        run = self.row_or_404(ReportRun.objects.select_related("customer"), self.kwargs["pk"])
        events = self.rows(DriftEvent).filter(report_run=run)
        chosen = {"report_run": run.pk, "customer_id": run.customer_id}
        return super().get_context_data(
            title=f"{run.get_run_type_display()} report",
            run=run,
            artifacts=self.rows(ReportArtifact).filter(report_run=run).order_by("kind"),
            events=events.order_by("-severity", "pk")[:LARGEST_EVENTS],
            offer=offer(self.request, DriftEventExport, events, chosen),
            **kwargs,
        )


class ArtifactFile(Rows, View):
    """The file of an artifact, streamed from the storage."""

    http_method_names = ("get", "head", "options")

    def get(self, _request: HttpRequest, pk: int) -> FileResponse:
        artifact = self.row_or_404(ReportArtifact.objects.all(), pk)
        try:
            file = default_storage.open(artifact.path)
        except FileNotFoundError as error:
            raise Http404("the file of this report is no longer in the storage") from error
        return FileResponse(file, as_attachment=True, filename=PurePath(artifact.path).name)


class SchedulePage(Page):
    """A form for the weekly report of a customer."""

    template_name = "upstream/schedule.html"
    section = "reports"
    http_method_names = ("get", "head", "post", "options")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        schedule = self._schedule()
        form = kwargs.pop("form", None) or ReportScheduleForm(instance=schedule)
        return super().get_context_data(
            title=f"Weekly reports of {schedule.customer}", schedule=schedule, form=form, **kwargs
        )

    def post(self, request: HttpRequest, **_: Any) -> HttpResponse:
        schedule = self._schedule()
        form = ReportScheduleForm(request.POST, instance=schedule)
        if not form.is_valid():
            return self.render_to_response(self.get_context_data(form=form), status=400)
        form.save()
        messages.success(request, f"Saved the schedule of {schedule.customer}.")
        return redirect(f"{reverse('reports')}?customer={schedule.customer.pk}")

    def _schedule(self) -> ReportSchedule:
        customer: Customer = self.row_or_404(Customer.objects.all(), self.kwargs["pk"])
        if not access.may_with(self.request.user, customer, ReportSchedule, "change"):
            raise PermissionDenied("You may view this customer, but not change its report schedule.")
        return ReportSchedule.objects.filter(customer=customer).first() or ReportSchedule(customer=customer)
