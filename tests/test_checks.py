"""System checks say what breaks exports off, makes them slow, or lets others wait for them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.cache import caches
from django.core.checks import run_checks
from django.db import connections
from django.middleware.gzip import GZipMiddleware
from django.middleware.security import SecurityMiddleware

from tests import processes
from tests.fieldtypes.models import Parent
from upstream.integrations.checks.settings import check_demo
from upstream.streaming import plan

ROOT = Path(__file__).resolve().parent.parent
GZIP = "django.middleware.gzip.GZipMiddleware"
SECURITY = "django.middleware.security.SecurityMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
CONDITIONAL = "django.middleware.http.ConditionalGetMiddleware"


def ids(alias):
    return [message.id for message in run_checks(databases=[alias]) if message.id.startswith("upstream")]


def messages(deploy=False):
    """Return id and text of what a site is told whose databases are not asked."""
    found = run_checks(tags=["exports"], include_deployment_checks=deploy)
    return {
        message.id.removeprefix("upstream_integrations."): f"{message.msg} {message.hint}" for message in found
    }


class TestDatabases:
    @pytest.mark.django_db(transaction=True)
    def test_sqlite_outside_of_wal_mode_is_told(self):
        assert ids("default") == ["upstream_integrations.W001"]
        with connections["default"].cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = WAL").fetchall()
            assert ids("default") == []
            cursor.execute("PRAGMA journal_mode = DELETE").fetchall()

    def test_a_database_with_all_that_exports_need_is_no_warning(self, transactional_database):
        if transactional_database != "default":
            assert ids(transactional_database) == []

    def test_a_driver_without_its_c_part_is_told_by_the_check_and_the_plan(self, database, monkeypatch):
        if connections[database].vendor != "postgresql":
            pytest.skip("psycopg is for PostgreSQL")
        monkeypatch.setattr("psycopg.pq.__impl__", "python")
        assert ids(database) == ["upstream_integrations.W002"]
        assert "psycopg[binary]" in plan(Parent.objects.using(database)).note

    def test_tables_without_transactions_are_told(self, database):
        if connections[database].vendor != "mysql":
            pytest.skip("other databases have one kind of table")
        with connections[database].cursor() as cursor:
            cursor.execute("SELECT @@default_storage_engine")
            [before] = cursor.fetchone()
            cursor.execute("SET SESSION default_storage_engine = MyISAM")
            assert ids(database) == ["upstream_integrations.W003"]
            cursor.execute(f"SET SESSION default_storage_engine = {before}")

    def test_cursors_that_pgbouncer_would_lose_are_told(self, pgbouncer, monkeypatch):
        monkeypatch.setitem(connections[pgbouncer].settings_dict, "DISABLE_SERVER_SIDE_CURSORS", False)
        assert ids(pgbouncer) == ["upstream_integrations.W008"]

    def test_pgbouncer_without_server_side_cursors_is_no_warning(self, pgbouncer):
        assert connections[pgbouncer].settings_dict["DISABLE_SERVER_SIDE_CURSORS"]
        assert ids(pgbouncer) == []

    def test_nothing_is_asked_of_databases_that_are_not_named(self):
        assert [message for message in run_checks() if message.id.startswith("upstream")] == []


class OwnGZipMiddleware(GZipMiddleware):
    pass


class OwnSecurityMiddleware(SecurityMiddleware):
    pass


def passing_middleware(get_response):
    return get_response


class TestSensitiveFields:
    @pytest.mark.parametrize("wrong", ["email", "email, phone", None, 1, [1]])
    def test_what_is_no_list_of_names_is_an_error(self, settings, wrong):
        settings.UPSTREAM_SENSITIVE_FIELDS = wrong
        assert "UPSTREAM_SENSITIVE_FIELDS is a" in messages()["E002"]

    def test_the_hint_for_a_string_is_the_list(self, settings):
        settings.UPSTREAM_SENSITIVE_FIELDS = "email,phone"
        assert "['email', 'phone']" in messages()["E002"]

    @pytest.mark.parametrize("right", [[], ["email"], ("email",), {"email"}])
    def test_a_list_of_names_is_no_error(self, settings, right):
        settings.UPSTREAM_SENSITIVE_FIELDS = right
        assert messages() == {}


class TestGZipMiddleware:
    @pytest.mark.parametrize("compressing", [GZIP, f"{__name__}.OwnGZipMiddleware"])
    def test_behind_others_it_is_told_with_their_names(self, settings, compressing):
        settings.MIDDLEWARE = [SECURITY, SESSIONS, f"{__name__}.passing_middleware", compressing, CONDITIONAL]
        told = messages()["W004"]
        assert told.startswith(f"{compressing} comes after {SESSIONS}, {__name__}.passing_middleware, ")
        assert 'stream(..., compression="gzip")' in told

    @pytest.mark.parametrize(
        "before",
        [
            [],
            [SECURITY],
            [f"{__name__}.OwnSecurityMiddleware", "django.middleware.cache.UpdateCacheMiddleware"],
            [SECURITY, "whitenoise.middleware.WhiteNoiseMiddleware", "corsheaders.middleware.CorsMiddleware"],
        ],
    )
    def test_in_its_place_it_is_no_warning(self, settings, before):
        settings.MIDDLEWARE = [*before, GZIP, SESSIONS, CONDITIONAL]
        assert messages() == {}

    def test_others_without_it_are_no_warning(self, settings):
        settings.MIDDLEWARE = [CONDITIONAL, SESSIONS]
        assert messages() == {}

    def test_entries_that_cannot_be_imported_are_no_error_of_this_check(self, settings, tmp_path, monkeypatch):
        (tmp_path / "upstream_broken.py").write_text("raise RuntimeError('no')")
        monkeypatch.syspath_prepend(tmp_path)
        settings.MIDDLEWARE = [GZIP, "nowhere.Middleware", "nodots", "upstream_broken.Middleware"]
        assert messages() == {}


@pytest.fixture
def start(tmp_path, monkeypatch):
    """A call that says what gunicorn is told in the directory where it starts, and by the environment."""
    monkeypatch.chdir(tmp_path)

    def start(conf=None, arguments=None):
        if conf is not None:
            Path("gunicorn.conf.py").write_text(conf)
        if arguments is not None:
            monkeypatch.setenv("GUNICORN_CMD_ARGS", arguments)

    monkeypatch.delenv("GUNICORN_CMD_ARGS", raising=False)
    return start


def gunicorns_own_answer():
    """Return after how many seconds gunicorn, started here, would kill a sync worker; 0 is never."""
    code = """if True:
        from gunicorn.app.wsgiapp import WSGIApplication
        settings = WSGIApplication().cfg
        print(settings.timeout if settings.worker_class_str.lower().endswith(("sync", "syncworker")) else 0)
    """
    command = [sys.executable, "-c", code, "wsgiref.simple_server:demo_app"]
    answer = subprocess.run(command, check=False, capture_output=True, text=True)
    return int(answer.stdout) if answer.returncode == 0 else 0


class TestGunicornsWorker:
    @pytest.mark.parametrize(
        ("conf", "arguments", "seconds"),
        [
            ("", None, 30),
            ("bind = ':8000'", None, 30),
            ("worker_class = 'sync'\ntimeout: int = 120", None, 120),
            ("timeout = '60'\nthreads = 1", None, 60),
            ("timeout = 10\ntimeout = 0x14", None, 20),
            ("worker_class = 'gunicorn.workers.sync.SyncWorker'", None, 30),
            (None, "--bind=:8000", 30),
            (None, "--workers 4 --worker-connections 7 -t90", 90),
            (None, "-k sync --threads=1 --timeout 45", 45),
            ("timeout = 0", "-t 15", 15),
            ("worker_class = 'gthread'", "--worker-class=sync", 30),
            ("worker_class = 'gthread'", "--config 'other conf.py' -w 2", 7),
            ("worker_class = 'gthread'", "-c 'file:other conf.py'", 7),
            ("threads = 4", None, 0),
            ("timeout = 0", None, 0),
            ("worker_class = 'gthread'", None, 0),
            ("worker_class = 'gunicorn.workers.gthread.ThreadWorker'", "--timeout 60", 0),
            ("threads = 1", "--threads 2", 0),
            ("timeout = 30", "--timeout=0", 0),
            ("timeout = 30", "--bind :8000 -t 0", 0),
            (None, "-kgthread", 0),
            (None, "-k=gthread", 0),
            # What gunicorn does not start with
            ("timeout = (", None, 0),
            ("timeout = None", None, 0),
            ("", "--timeout", 0),
            ("", "--timeout soon", 0),
            ("", "--timeout '", 0),
            ("", "--config nowhere.py", 0),
        ],
    )
    def test_a_sync_worker_is_told_after_as_many_seconds_as_gunicorn_waits(self, start, conf, arguments, seconds):
        pytest.importorskip("gunicorn")
        Path("other conf.py").write_text("timeout = 7")
        start(conf, arguments)
        assert gunicorns_own_answer() == seconds
        assert messages().get("W005", "").partition(" s. ")[0].endswith(f"longer than {seconds}") == bool(seconds)

    @pytest.mark.parametrize(
        "conf",
        [
            "import os\ntimeout = int(os.environ.get('TIMEOUT', 30))",
            "worker_class = 'gthread' if 1 else 'sync'",
            "if True:\n    threads = 4",
            "worker_class, threads = 'sync', 4",
            "timeout = 30\ntimeout -= 30",
            "from shared import *",
            "from shared import timeout",
            "from shared import limit as timeout",
        ],
    )
    def test_a_value_that_only_running_the_file_tells_is_no_warning(self, start, conf):
        start(conf)
        assert messages() == {}

    def test_a_file_of_the_environment_that_is_a_module_is_no_warning(self, start):
        start("", "--config python:shared")
        assert messages() == {}

    def test_the_file_is_not_run(self, start):
        start("open('run', 'w').close()")
        assert list(messages()) == ["W005"]
        assert not Path("run").exists()

    @pytest.mark.parametrize("arguments", [None, ""])
    def test_no_word_of_gunicorn_is_no_warning(self, start, arguments):
        start(None, arguments)
        assert messages() == {}


class TestGunicornsVersion:
    @pytest.fixture
    def install(self, tmp_path, monkeypatch):
        def install(version):
            directory = tmp_path / f"gunicorn-{version}.dist-info"
            directory.mkdir()
            (directory / "METADATA").write_text(f"Metadata-Version: 2.1\nName: gunicorn\nVersion: {version}\n")

        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        return install

    @pytest.mark.parametrize("version", ["19.9.0", "23.0.0", "26.1.0"])
    def test_one_that_ends_broken_downloads_with_an_error_page_is_told(self, install, version):
        install(version)
        assert messages()["W006"].startswith(f"gunicorn {version} ")

    @pytest.mark.parametrize("version", ["27.0.0", "27.0.1", "100.1", "27.0.0rc1"])
    def test_one_that_leaves_them_as_they_are_is_no_warning(self, install, version):
        install(version)
        assert messages() == {}

    def test_none_is_no_warning(self, install):
        assert messages() == {}


class TestPersistentConnections:
    @pytest.mark.parametrize("age", [60, None])
    def test_under_asgi_they_are_told(self, settings, monkeypatch, age):
        settings.ASGI_APPLICATION = "site.asgi.application"
        monkeypatch.setitem(connections["default"].settings_dict, "CONN_MAX_AGE", age)
        assert messages()["W007"].startswith(f"'default' has CONN_MAX_AGE = {age} ")

    @pytest.mark.parametrize("application", [None, ...])
    def test_without_asgi_they_are_no_warning(self, settings, monkeypatch, application):
        settings.ASGI_APPLICATION = application
        if application is ...:
            del settings.ASGI_APPLICATION
        monkeypatch.setitem(connections["default"].settings_dict, "CONN_MAX_AGE", 60)
        assert messages() == {}

    def test_asgi_without_them_is_no_warning(self, settings):
        settings.ASGI_APPLICATION = "site.asgi.application"
        assert messages() == {}


class TestLimits:
    @pytest.mark.parametrize(
        ("limits", "reason"),
        [
            ({"rows_per_day": 5}, "unknown limit 'rows_per_day'"),
            ({"total": 0}, "total must be a number greater than 0, not 0, in UPSTREAM_EXPORT_LIMITS"),
            ({"retry_after": None}, "retry_after must be a number greater than 0"),
            ({"total": 5, "cache": "nowhere"}, "nowhere"),
            (5, "not iterable"),
            (None, "not iterable"),
            (["total"], "mapping"),
        ],
    )
    @pytest.mark.parametrize("deploy", [False, True])
    def test_what_cannot_be_read_is_an_error(self, settings, limits, reason, deploy):
        settings.UPSTREAM_EXPORT_LIMITS = limits
        assert list(messages(deploy)) == ["E001"]
        assert reason in messages(deploy)["E001"]

    @pytest.mark.parametrize(
        ("backend", "effect"),
        [("locmem.LocMemCache", "each process counts alone"), ("dummy.DummyCache", "nothing is counted")],
    )
    @pytest.mark.parametrize("limits", [{"per_user": 2}, {"total": 5, "rows": 10}])
    def test_counted_by_each_process_they_are_told_to_deployments(self, settings, backend, effect, limits):
        settings.CACHES = {"default": {"BACKEND": f"django.core.cache.backends.{backend}"}}
        settings.UPSTREAM_EXPORT_LIMITS = limits
        assert messages() == {}
        told = messages(deploy=True)["W009"]
        assert f"has {next(iter(limits))}, " in told
        assert effect in told

    def test_counted_in_a_cache_that_processes_share_they_are_no_warning(self, settings, tmp_path):
        shared = {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": tmp_path}
        settings.CACHES = {**settings.CACHES, "shared": shared}
        settings.UPSTREAM_EXPORT_LIMITS = {"total": 5, "cache": "shared"}
        assert messages(deploy=True) == {}

    @pytest.mark.parametrize("limits", [{}, {"rows": 10, "seconds": 5}])
    def test_of_each_download_alone_they_are_no_warning(self, settings, limits):
        settings.UPSTREAM_EXPORT_LIMITS = limits
        assert type(caches["default"]).__name__ == "LocMemCache"
        assert messages(deploy=True) == {}


@pytest.mark.parametrize(
    "options", [[], ["--deploy", "--tag", "exports"], ["--tag", "database", "--database", "default"]]
)
def test_the_application_itself_is_no_warning(options):
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "upstream.settings"}
    command = [sys.executable, "manage.py", "check", *options]
    answer = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    assert answer.stdout.startswith("System check identified no issues")
    assert answer.stderr == ""


class TestANewProject:
    """Of others, as `startproject` makes it."""

    @pytest.fixture
    def check(self, tmp_path):
        made = processes.run("-m", "django", "startproject", "mysite", tmp_path)
        assert made.returncode == 0, made.stderr.decode()
        (tmp_path / "shop").mkdir()
        for name in ("__init__", "admin", "models"):
            (tmp_path / "shop" / f"{name}.py").touch()

        def check(*apps, admin=""):
            (tmp_path / "shop" / "admin.py").write_text(admin)
            settings = tmp_path / "mysite" / "settings.py"
            settings.write_text(f"{settings.read_text()}\nINSTALLED_APPS += {['shop', *apps]}\n")
            result = processes.run(tmp_path / "manage.py", "check", cwd=tmp_path)
            return result.returncode, (result.stdout + result.stderr).decode()

        return check

    EXPORTING = """
from django.contrib import admin
from django.contrib.auth.models import Group
from upstream.integrations.admin import ExportModelAdmin
admin.site.unregister(Group)
admin.site.register(Group, ExportModelAdmin)
"""

    def test_the_app_of_the_integrations_is_no_warning(self, check):
        assert check("upstream.integrations", admin=self.EXPORTING) == (
            0,
            "System check identified no issues (0 silenced).\n",
        )

    def test_the_demo_application_is_a_warning_that_names_the_right_app(self, check):
        code, told = check("upstream.integrations", "upstream")
        assert code == 0
        assert "(upstream_integrations.W010)" in told
        assert 'Write "upstream.integrations" instead' in told

    def test_the_demo_application_alone_is_told_as_well(self, check):
        code, told = check("upstream")
        assert code == 1
        assert "(upstream_integrations.W010)" in told
        assert "(upstream_integrations.E010)" in told

    def test_the_admin_mixin_without_the_app_is_an_error(self, check):
        code, told = check(admin=self.EXPORTING)
        assert code == 1
        assert "(upstream_integrations.E010) ExportModelAdmin export, but" in told
        assert 'Add "upstream.integrations" to INSTALLED_APPS' in told


@pytest.mark.parametrize("name", ["ROOT_URLCONF", "WSGI_APPLICATION", "ASGI_APPLICATION"])
def test_settings_of_the_demo_application_with_one_name_of_its_own_are_no_warning(settings, monkeypatch, name):
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "mysite.settings")
    own = getattr(settings, name)
    for one in ("ROOT_URLCONF", "WSGI_APPLICATION", "ASGI_APPLICATION"):
        setattr(settings, one, None if one != "ROOT_URLCONF" else "mysite.urls")
    setattr(settings, name, own)
    assert list(check_demo()) == []
    setattr(settings, name, "mysite")
    assert [message.id for message in check_demo()] == ["upstream_integrations.W010"]
