"""Settings of the Upstream application; the environment decides what differs between machines.

``UPSTREAM_SECRET_KEY``, ``UPSTREAM_DEBUG``, ``UPSTREAM_ALLOWED_HOSTS`` (comma-separated), ``UPSTREAM_SMTP``
(host:port; without it mail is written to files under ``.demo/mail/``) and ``DATABASE_URL`` (needs the extra
``demo``; without it a SQLite file under ``.demo/``).
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import django
from django.core.management.utils import get_random_secret_key

from upstream.streaming._optional import optional

BASE_DIR = Path(__file__).resolve().parent.parent

# A random key serves one process: deployments with several set their own.
SECRET_KEY = os.environ.get("UPSTREAM_SECRET_KEY") or get_random_secret_key()
DEBUG = os.environ.get("UPSTREAM_DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("UPSTREAM_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")

INSTALLED_APPS = [
    "upstream",  # first, for its base page of the admin
    "django.contrib.admin",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "upstream.integrations",
    "upstream.dumps",
    "upstream.jobs",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "upstream.urls"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "/"
ASGI_APPLICATION = "upstream.asgi.application"
WSGI_APPLICATION = "upstream.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

if find_spec("drf_spectacular") and find_spec("django_filters"):  # the JSON API; they come with the `demo` extra
    INSTALLED_APPS += ["rest_framework", "django_filters", "drf_spectacular"]
    REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}
    SPECTACULAR_SETTINGS = {
        "TITLE": "Upstream",
        "DESCRIPTION": "Payer drift: claims, drift events, alerts and reports. Every list is an export too.",
        "VERSION": "1",
        "SERVE_INCLUDE_SCHEMA": False,
        "ENUM_NAME_OVERRIDES": {
            "DriftTypeEnum": "upstream.models.DriftType",
            "RunStatusEnum": "upstream.models.RunStatus",
            "AlertStatusEnum": "upstream.models.AlertStatus",
        },
    }

MEDIA_ROOT = BASE_DIR / ".demo" / "media"  # the files of reports, which a view gives to those who may see them
UPSTREAM_JOBS = {"directory": BASE_DIR / ".demo" / "exports"}
STATIC_URL = "static/"
if find_spec("whitenoise"):  # the admin's style sheets without `runserver`; it comes with the `demo` extra
    MIDDLEWARE.insert(1, "whitenoise.middleware.WhiteNoiseMiddleware")
    WHITENOISE_USE_FINDERS = True


def _sqlite() -> dict[str, Any]:
    directory = BASE_DIR / ".demo"
    directory.mkdir(exist_ok=True)
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": directory / "upstream.sqlite3"}


def _database() -> dict[str, Any]:
    url = os.environ.get("DATABASE_URL")
    database: dict[str, Any] = {**optional("dj_database_url", "demo").parse(url)} if url else _sqlite()
    if database["ENGINE"] == "django.db.backends.sqlite3":
        # WAL lets a long export read while others write; with IMMEDIATE a second writer waits.
        database["OPTIONS"] = {
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            "transaction_mode": "IMMEDIATE",
            **database.get("OPTIONS", {}),
        }
    return database


DATABASES = {"default": _database()}


# Without one, a mail server that hangs holds up a process for ever. Not short: who gives up on a slow server that
# takes the message after all sends it twice.
MAIL_TIMEOUT_SECONDS = 60


def mail_settings(smtp: str) -> dict[str, Any]:
    """Return the settings of mail, which have another form from Django 6.1 on."""
    if smtp:
        host, _, port = smtp.partition(":")
        backend, options = "smtp", {"host": host, "port": int(port or 25), "timeout": MAIL_TIMEOUT_SECONDS}
        older = {"EMAIL_HOST": host, "EMAIL_PORT": options["port"], "EMAIL_TIMEOUT": MAIL_TIMEOUT_SECONDS}
    else:
        folder = str(BASE_DIR / ".demo" / "mail")
        backend, options = "filebased", {"file_path": folder}
        older = {"EMAIL_FILE_PATH": folder}
    backend = f"django.core.mail.backends.{backend}.EmailBackend"
    if django.VERSION >= (6, 1):
        return {"MAILERS": {"default": {"BACKEND": backend, "OPTIONS": options}}}
    return {"EMAIL_BACKEND": backend, **older}


globals().update(mail_settings(os.environ.get("UPSTREAM_SMTP", "")))
DEFAULT_FROM_EMAIL = "upstream@localhost"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
USE_THOUSAND_SEPARATOR = True
