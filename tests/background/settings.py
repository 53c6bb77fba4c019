"""Settings of workers that tests start. BACKGROUND_DATABASES and BACKGROUND_OPTIONS are JSON objects."""

import json
import os

from upstream.settings import *  # noqa: F403

SECRET_KEY = "tests"
ALLOWED_HOSTS = ["*"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ROOT_URLCONF = "tests.background.urls"
DATABASES = json.loads(os.environ["BACKGROUND_DATABASES"])
UPSTREAM_JOBS = json.loads(os.environ["BACKGROUND_OPTIONS"])
