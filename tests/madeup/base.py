"""A Django backend of a vendor that nobody knows: SQLite under another name."""

from django.db.backends.sqlite3 import base


class DatabaseWrapper(base.DatabaseWrapper):
    vendor = "madeup"
    display_name = "Made-Up SQL"
