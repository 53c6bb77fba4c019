"""A router of databases."""


class JobsIn:
    """Keeps the jobs in the database of an alias."""

    def __init__(self, alias):
        self.alias = alias

    def db_for_read(self, model, **_):
        return self.alias if model._meta.app_label == "upstream_jobs" else None

    db_for_write = db_for_read
