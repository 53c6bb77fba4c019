"""Which rows of the application a user may view, change or export. Nothing else decides it.

Members of a customer (`Customer.users`) view, change and export the rows of that customer. Staff with Django's
permission to view a model view the rows of all customers, and change or export them with the permission for that.
Superusers may do everything, anonymous and inactive users nothing.
"""

from typing import Any, Literal, TypeVar

from django.contrib.auth import get_permission_codename
from django.db.models import Model, QuerySet

from upstream.integrations.permissions import may_view
from upstream.models import Customer, ReportArtifact

Action = Literal["view", "add", "change", "export"]
Row = TypeVar("Row", bound=Model)

CUSTOMER = "customer_id"
PATHS: dict[type[Model], str] = {Customer: "pk", ReportArtifact: "report_run__customer_id"}


def rows(user: Any, queryset: QuerySet[Row], action: Action = "view") -> QuerySet[Row]:
    """Return the rows of `queryset` that the user may view, or do the other action with."""
    if has_all(user, queryset.model, action):
        return queryset
    return queryset.filter(**{f"{PATHS.get(queryset.model, CUSTOMER)}__in": own_customers(user)})


def may(user: Any, model: type[Model], action: Action = "view") -> bool:
    """Whether there may be rows of the model that the user may do the action with."""
    return has_all(user, model, action) or bool(own_customers(user))


def may_with(user: Any, customer: Customer, model: type[Model], action: Action = "view") -> bool:
    """Whether the user may do the action with what a customer has, or may get, of the model."""
    return has_all(user, model, action) or customer.pk in own_customers(user)


def has_all(user: Any, model: type[Model], action: Action = "view") -> bool:
    """Whether the user may do the action with the rows of all customers."""
    if not user.is_active or not user.is_staff:
        return bool(user.is_active and user.is_superuser)
    name = f"{model._meta.app_label}.{get_permission_codename(action, model._meta)}"
    return may_view(user, model) and (action == "view" or user.has_perm(name))


def own_customers(user: Any) -> tuple[int, ...]:
    """Return the keys of the customers that the user is a member of; they are read once for each user object."""
    if not user.is_active:
        return ()
    if not hasattr(user, "customer_keys"):
        # Their keys, not a subquery: so the planner knows whether they are few or all.
        user.customer_keys = tuple(user.customers.values_list("pk", flat=True))
    keys: tuple[int, ...] = user.customer_keys
    return keys
