"""The models whose rows a database holds."""

from collections.abc import Sequence

from django.apps import apps
from django.db import connections, router
from django.db.models import Model


def stored_models(database: str) -> Sequence[type[Model]]:
    """Return the models whose tables `migrate` makes in the database with this alias, sorted by label.

    The tables of many-to-many relations are among them. Proxies have no table of their own, and those of unmanaged
    models belong to somebody else.
    """
    connection = connections[database]
    models = apps.get_models(include_auto_created=True)
    stored = [one for one in models if one._meta.can_migrate(connection)]
    return sorted(
        (one for one in stored if router.allow_migrate_model(database, one)), key=lambda one: one._meta.label_lower
    )
