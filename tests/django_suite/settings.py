"""Settings of Django's own suite, which its `runtests.py` completes."""

import json
import os

DATABASES = json.loads(os.environ["DJANGO_SUITE_DATABASES"])
TIME_ZONE = os.environ["DJANGO_SUITE_ZONE"]
USE_TZ = False
SECRET_KEY = "django_tests_secret_key"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
