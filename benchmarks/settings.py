"""Settings of one measured process; `BENCHMARKS_DATABASE` is its database, as JSON of a Django entry."""

import json
import os

DATABASES = {
    "default": json.loads(os.environ.get("BENCHMARKS_DATABASE", "null"))
    or {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
}
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "benchmarks.table"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "benchmarks.urls"
SECRET_KEY = "benchmarks"
ALLOWED_HOSTS = ["*"]
MIDDLEWARE: list[str] = []
USE_TZ = True
TIME_ZONE = "UTC"
