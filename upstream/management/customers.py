"""The customer that a command is told of."""

from django.core.management.base import CommandError
from django.db.models import Q

from upstream.models import Customer


def customer_named(text: str, database: str) -> Customer:
    """Return the customer with a name or an id, or raise CommandError."""
    wanted = Q(name=text) | Q(pk=int(text)) if text.isdecimal() else Q(name=text)
    try:
        return Customer.objects.using(database).get(wanted)
    except Customer.DoesNotExist:
        raise CommandError(f"there is no customer {text!r}: give the name or the id of one") from None
    except Customer.MultipleObjectsReturned:
        raise CommandError(f"{text!r} is the name of one customer and the id of another") from None
