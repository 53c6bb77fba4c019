"""System checks for deployments that break exports off, make them slow, or make others wait. Their ids stay.

Databases are asked where one is named: `manage.py check --database default`, or any `migrate`. Whether limits are
counted across processes is asked by `check --deploy`: in development there is one process. The others belong to
every check, since they speak only where something was set that breaks exports; `check --tag exports` runs no more.
"""

from django.core.checks import Tags, register

from upstream.integrations.checks import databases, gunicorn, settings

TAG = "exports"

register(databases.check_databases, Tags.database)
register(settings.check_compression, TAG)
register(settings.check_persistent_connections, TAG, Tags.async_support)
register(settings.check_limits, TAG, Tags.caches)
register(settings.check_counting, TAG, Tags.caches, deploy=True)
register(gunicorn.check_worker, TAG)
register(gunicorn.check_version, TAG)
