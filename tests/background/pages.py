"""Settings of a site whose exports a test holds up."""

import os
from pathlib import Path

import upstream.jobs
from upstream.settings import *  # noqa: F403
from upstream.settings import TEMPLATES

SECRET_KEY = "tests"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ROOT_URLCONF = "tests.background.gated"
UPSTREAM_JOBS = {"rows": 1000, "directory": os.environ["EXPORTS_DIRECTORY"]}
if language := os.environ.get("EXPORTS_LANGUAGE"):  # a project of others, without the pages of the application
    LANGUAGE_CODE = language
    TEMPLATES = [{**TEMPLATES[0], "DIRS": [Path(upstream.jobs.__file__).parent / "templates"]}]
