"""Settings of the application that tests put behind real servers. SERVING_DATABASES is a JSON object."""

import json
import os

SECRET_KEY = "tests"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.serving.urls"
INSTALLED_APPS = ["tests.serving"]
DATABASES = json.loads(os.environ["SERVING_DATABASES"])
DATABASES["default"] = DATABASES["sqlite"]
USE_TZ = True
LOGGING_CONFIG = None
