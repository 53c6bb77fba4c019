"""System checks for settings and servers that break exports, slow them down or block others. Their ids are stable.

Databases are checked only if they are named: `manage.py check --database default`, or any `migrate`. The check for
limits counted across processes needs `check --deploy`, since development has one process. The others run with
every `check`, and warn only about settings that break exports; `check --tag exports` runs these alone.
"""

from django.core.checks import Tags, register

from upstream.integrations.checks import databases, gunicorn, settings

TAG = "exports"

register(databases.check_databases, Tags.database)
register(settings.check_compression, TAG)
register(settings.check_persistent_connections, TAG, Tags.async_support)
register(settings.check_limits, TAG, Tags.caches)
register(settings.check_sensitive_fields, TAG, Tags.security)
register(settings.check_counting, TAG, Tags.caches, deploy=True)
register(gunicorn.check_worker, TAG)
register(gunicorn.check_version, TAG)
