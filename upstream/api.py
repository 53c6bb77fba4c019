"""The JSON API: the lists of the application's pages, for programs. Each is an export too, at `?format=csv`.

It needs the extra `demo`. The rows are those that `upstream.access` lets a user view, or export. Lists have pages
that a cursor links, so that nobody counts rows.
"""

from typing import Any

from django.db.models import BooleanField, QuerySet
from django.urls import path
from django_filters.rest_framework import DjangoFilterBackend, FilterSet, NumberFilter, TypedChoiceFilter
from drf_spectacular.views import SpectacularAPIView
from rest_framework.fields import CharField
from rest_framework.pagination import CursorPagination
from rest_framework.permissions import IsAuthenticated
from rest_framework.routers import DefaultRouter
from rest_framework.serializers import ModelSerializer
from rest_framework.viewsets import ReadOnlyModelViewSet

from upstream import access
from upstream.integrations.drf import ExportListMixin, ExportRenderer
from upstream.models import AlertEvent, AlertRule, ClaimRecord, Customer, DriftEvent, ReportRun


class Pages(CursorPagination):
    page_size = 100
    max_page_size = 1000
    page_size_query_param = "page_size"
    ordering = "-id"


class Scoped(ExportListMixin, ReadOnlyModelViewSet):
    """The rows of the user's customers; staff with the permission have those of all."""

    permission_classes = (IsAuthenticated,)
    pagination_class = Pages
    filter_backends = (DjangoFilterBackend,)

    def get_queryset(self) -> QuerySet[Any]:
        is_export = isinstance(getattr(self.request, "accepted_renderer", None), ExportRenderer)
        return access.rows(self.request.user, super().get_queryset(), "export" if is_export else "view")

    def has_export_permission(self, queryset: Any) -> bool:
        return access.may(self.request.user, queryset.model, "export")


class OfCustomer(ModelSerializer):
    customer_name = CharField(source="customer.name", read_only=True)


def _strict(_field: Any) -> dict[str, Any]:
    return {"choices": [("true", "true"), ("false", "false")], "coerce": "true".__eq__}


class ByCustomer(FilterSet):
    # A value that is no boolean is a 400; django-filter's own filter lists all rows then.
    FILTER_DEFAULTS = {
        **FilterSet.FILTER_DEFAULTS,
        BooleanField: {"filter_class": TypedChoiceFilter, "extra": _strict},
    }
    # A number, not a choice: what it says of a key does not tell whether there is such a customer.
    customer = NumberFilter(field_name="customer_id", label="The customer's id")


class CustomerSerializer(ModelSerializer):
    class Meta:
        model = Customer
        fields = ("id", "name")


class Customers(Scoped):
    queryset = Customer.objects.all()
    serializer_class = CustomerSerializer


class ClaimSerializer(OfCustomer):
    class Meta:
        model = ClaimRecord
        fields = (
            *("id", "customer", "customer_name", "payer", "cpt", "cpt_group", "submitted_date", "decided_date"),
            *("outcome", "billed_amount", "allowed_amount", "paid_amount"),
        )


class ClaimFilter(ByCustomer):
    class Meta:
        model = ClaimRecord
        fields = {"payer": ["exact"], "cpt_group": ["exact"], "outcome": ["exact"], "decided_date": ["gte", "lt"]}


class Claims(Scoped):
    queryset = ClaimRecord.objects.select_related("customer")
    serializer_class = ClaimSerializer
    filterset_class = ClaimFilter


class DriftEventSerializer(OfCustomer):
    class Meta:
        model = DriftEvent
        fields = (
            *("id", "created_at", "customer", "customer_name", "report_run", "payer", "cpt_group", "drift_type"),
            *("baseline_value", "current_value", "delta_value", "baseline_claims", "current_claims", "p_value"),
            *("severity", "confidence", "baseline_start", "baseline_end", "current_start", "current_end"),
            *("estimated_revenue_impact", "trend_direction", "consecutive_periods", "suppressed"),
            *("acknowledged_at", "potential_root_causes"),
        )


class DriftEventFilter(ByCustomer):
    class Meta:
        model = DriftEvent
        fields = {
            "payer": ["exact"],
            "cpt_group": ["exact"],
            "drift_type": ["exact"],
            "trend_direction": ["exact"],
            "severity": ["gte"],
            "suppressed": ["exact"],
            "created_at": ["gte", "lt"],
        }


class DriftEvents(Scoped):
    queryset = DriftEvent.objects.select_related("customer")
    serializer_class = DriftEventSerializer
    filterset_class = DriftEventFilter


class AlertRuleSerializer(OfCustomer):
    class Meta:
        model = AlertRule
        fields = ("id", "customer", "customer_name", "name", "enabled", "threshold_value", "drift_type_filter")


class AlertRuleFilter(ByCustomer):
    class Meta:
        model = AlertRule
        fields = ("enabled",)


class AlertRules(Scoped):
    queryset = AlertRule.objects.select_related("customer")
    serializer_class = AlertRuleSerializer
    filterset_class = AlertRuleFilter


class AlertEventSerializer(OfCustomer):
    class Meta:
        model = AlertEvent
        fields = (
            *("id", "triggered_at", "customer", "customer_name", "alert_rule", "drift_event", "status"),
            *("notification_sent_at", "error_message"),
        )


class AlertEventFilter(ByCustomer):
    class Meta:
        model = AlertEvent
        fields = {"status": ["exact"], "triggered_at": ["gte", "lt"]}


class AlertEvents(Scoped):
    queryset = AlertEvent.objects.select_related("customer")
    serializer_class = AlertEventSerializer
    filterset_class = AlertEventFilter


class ReportRunSerializer(OfCustomer):
    class Meta:
        model = ReportRun
        fields = (
            *("id", "customer", "customer_name", "run_type", "status", "period_start", "period_end"),
            *("started_at", "finished_at"),
        )


class ReportRunFilter(ByCustomer):
    class Meta:
        model = ReportRun
        fields = {"run_type": ["exact"], "status": ["exact"], "period_end": ["gte", "lt"]}


class ReportRuns(Scoped):
    queryset = ReportRun.objects.select_related("customer")
    serializer_class = ReportRunSerializer
    filterset_class = ReportRunFilter


router = DefaultRouter()
router.register("customers", Customers)
router.register("claims", Claims)
router.register("drift-events", DriftEvents)
router.register("alert-rules", AlertRules)
router.register("alert-events", AlertEvents)
router.register("report-runs", ReportRuns)

# It tells no data, but whoever may not ask for data need not know what there is.
schema = SpectacularAPIView.as_view(permission_classes=(IsAuthenticated,))
urlpatterns = [*router.urls, path("schema/", schema, name="schema")]
