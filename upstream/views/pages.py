"""What the pages share: a login, the customers that a user sees, and the answer to a button."""

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.views import LoginView
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.utils.functional import cached_property
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import override
from django.views.generic import TemplateView, View

from upstream import access
from upstream.models import Customer
from upstream.views.paging import PAGE_ROWS

# More customers than these are searched for on a page of their own.
LISTED_CUSTOMERS = 250


class Rows(LoginRequiredMixin):
    """Gives a view the rows that its user may view, change or export."""

    request: HttpRequest

    def rows(self, model: type[Model], action: access.Action = "view") -> QuerySet[Any]:
        return access.rows(self.request.user, model._default_manager.all(), action)

    def row_or_404(self, queryset: QuerySet[Any], pk: Any, *, change: bool = False) -> Any:
        """Return a row: 404 if the user may not view it, 403 if it is to be changed and may only be viewed."""
        user = self.request.user
        row = get_object_or_404(access.rows(user, queryset), pk=pk)
        if change and not access.rows(user, queryset.filter(pk=pk), "change").exists():
            raise PermissionDenied(f"You may view this {queryset.model._meta.verbose_name}, but not change it.")
        return row


class OfCustomer(Rows):
    """Narrows a view to one customer, that of `?customer=` or the only one there is for its user."""

    @cached_property
    def customers(self) -> list[Customer]:
        """The customers to choose from, if they fit a list."""
        found = list(self.rows(Customer).order_by("name")[: LISTED_CUSTOMERS + 1])
        return found if len(found) <= LISTED_CUSTOMERS else []

    @cached_property
    def customer(self) -> Customer | None:
        """The one customer that the page is about: the chosen one, or the only one."""
        wanted = self.request.GET.get("customer", "")
        if not wanted:
            return self.customers[0] if len(self.customers) == 1 else None
        if not (wanted.isdecimal() and wanted.isascii() and len(wanted) < 19):
            raise Http404("there is no such customer")
        listed = (customer for customer in self.customers if customer.pk == int(wanted))
        return next(listed, None) or get_object_or_404(self.rows(Customer), pk=int(wanted))

    @property
    def customer_parameter(self) -> dict[str, Any]:
        """The parameter of an export that says the same as the page's customer."""
        return {"customer_id": self.customer.pk} if self.customer else {}

    def of_customer(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows of the page's customer, if it is about one."""
        return queryset.filter(customer=self.customer) if self.customer else queryset


class InEnglish(View):
    """A page in English whatever language the browser asks for, as the texts of its templates are."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with override("en-us"):
            response: Any = super().dispatch(request, *args, **kwargs)
            return response.render() if isinstance(response, TemplateResponse) else response


class Login(InEnglish, LoginView):
    """The form to log in; who is logged in is led to the dashboard."""

    redirect_authenticated_user = True


class Page(InEnglish, OfCustomer, TemplateView):
    """A page of the application; `?customer=` narrows it to one customer."""

    section = ""
    title = ""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        own = {
            "section": self.section,
            "title": self.title,
            "customers": self.customers,
            "customer": self.customer,
            "sees_customers": access.may(self.request.user, Customer),
        }
        return super().get_context_data(**{**own, **kwargs})


class ChangeRows(Rows, View):
    """Does what a button says with the rows that were chosen, and goes back to the page with a message.

    `changes` has for each value of `action` a method; it takes the rows and returns the words of the message.
    """

    http_method_names = ("post",)
    model: type[Model]
    changes: Mapping[str, str]

    def post(self, request: HttpRequest) -> HttpResponseBase:
        change = self.changes.get(request.POST.get("action", ""))
        if change is None:
            raise Http404("there is no such action")
        if keys := self._keys(request):
            rows = self._changeable(keys)
            messages.success(request, getattr(self, change)(rows))
        else:
            messages.warning(request, f"Choose at least one of the {self.model._meta.verbose_name_plural}.")
        return HttpResponseRedirect(back(request))

    def _keys(self, request: HttpRequest) -> set[int]:
        texts = request.POST.getlist("row")
        if len(texts) > PAGE_ROWS or not all(
            text.isascii() and text.isdecimal() and len(text) < 19 for text in texts
        ):
            raise Http404("there are no such rows")
        return {int(text) for text in texts}

    def _changeable(self, keys: set[int]) -> QuerySet[Any]:
        if self.rows(self.model).filter(pk__in=keys).count() != len(keys):
            raise Http404("there are no such rows")
        rows = self.rows(self.model, "change").filter(pk__in=keys)
        if rows.count() != len(keys):
            raise PermissionDenied(
                f"You may view these {self.model._meta.verbose_name_plural}, but not change them."
            )
        return rows


def back(request: HttpRequest) -> str:
    """Return the page of this site to go back to: that in the field `next`, or the first."""
    target = request.POST.get("next", "")
    is_safe = url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure())
    return target if is_safe and target.startswith("/") else "/"
