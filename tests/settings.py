"""Settings of the tests: those of the application, on every database that can be had here."""

import atexit
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from tests import services
from upstream.settings import *  # noqa: F403
from upstream.settings import INSTALLED_APPS

TEST_DIRECTORY = Path(tempfile.mkdtemp(prefix="upstream-tests-"))
atexit.register(shutil.rmtree, TEST_DIRECTORY, ignore_errors=True)

SECRET_KEY = "tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
MEDIA_ROOT = TEST_DIRECTORY / "media"
# No test starts a worker unless it says so: a thread would use the test's database after it.
UPSTREAM_JOBS = {"worker": "command", "directory": TEST_DIRECTORY / "exports"}

sys.path.append(str(Path(__file__).parent / "newcomer"))  # the reader's own app, as the guides import it
INSTALLED_APPS = [*INSTALLED_APPS, "tests.fieldtypes", "tests.library", "tests.orders", "shop"]
if find_spec("psycopg"):
    INSTALLED_APPS.append("django.contrib.postgres")

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": TEST_DIRECTORY / "main.sqlite3",
        "OPTIONS": {"timeout": 20, "init_command": "PRAGMA synchronous=OFF"},
        # A file, since other threads and processes cannot open an in-memory database.
        "TEST": {"NAME": TEST_DIRECTORY / "test.sqlite3"},
    }
}
MISSING_DATABASES = {}

for _alias, _service in {"postgresql": services.postgresql, "mariadb": services.mariadb}.items():
    _entry, _reason = _service()
    if _entry:
        DATABASES[_alias] = _entry
    else:
        MISSING_DATABASES[_alias] = _reason
