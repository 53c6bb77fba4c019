"""Settings of the application that tests put behind real servers. SERVING_DATABASES is a JSON object."""

import json
import os

SECRET_KEY = "tests"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.serving.urls"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "upstream.integrations",
    "upstream.dumps",
    "tests.serving",
]
MIDDLEWARE = ["tests.serving.middleware.replacing"]
DATABASES = json.loads(os.environ["SERVING_DATABASES"])
DATABASES["default"] = DATABASES["sqlite"]
if "SERVING_REDIS" in os.environ:
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": os.environ["SERVING_REDIS"],
        }
    }
USE_TZ = True
LOGGING_CONFIG = None
