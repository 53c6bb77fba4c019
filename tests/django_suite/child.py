"""Run labels of Django's suite in this process: `python -m tests.django_suite.child NAME watch|plain LABEL...`.

In the folder of the suite's tests. It leaves NAME.json, NAME.differences and, from its parent, NAME.log.
"""

import atexit
import os
import runpy
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.django_suite.findings import Findings
from tests.django_suite.watch import Watcher

# The PostgreSQL of the wheel has no collations of ICU, nor pgcrypto and uuid-ossp.
COLLATIONS = {"virtual": "C", "non_default": "C", "swedish_ci": "C"}


def main(name: str, how: str, *labels: str) -> None:
    with Path(f"{name}.differences").open("w", encoding="utf-8") as file:
        findings = Findings(file)
        process = os.getpid()
        # runtests.py ends the process; children that tests fork have none of these findings.
        atexit.register(lambda: findings.save(Path(f"{name}.json")) if os.getpid() == process else None)
        watcher = Watcher(findings)
        watcher.note_tests()
        if how == "watch":
            watcher.install()
        _spare_what_postgresql_lacks()
        sys.path.insert(0, str(Path.cwd()))
        sys.argv = ["runtests.py", "--settings=tests.django_suite.settings", "--parallel=1", "--noinput", *labels]
        runpy.run_path("runtests.py", run_name="__main__")


def _spare_what_postgresql_lacks() -> None:
    try:
        operations = import_module("django.contrib.postgres.operations")
        features = import_module("django.db.backends.postgresql.features").DatabaseFeatures
    except ImportError:
        return
    features.test_collations = {**features.test_collations, **COLLATIONS}
    exists = operations.CreateExtension.extension_exists

    def needs_no_creation(operation: Any, editor: Any, extension: str) -> bool:
        with editor.connection.cursor() as cursor:
            cursor.execute("SELECT FROM pg_available_extensions WHERE name = %s", [extension])
            return cursor.fetchone() is None or exists(operation, editor, extension)

    operations.CreateExtension.extension_exists = needs_no_creation


if __name__ == "__main__":
    main(*sys.argv[1:])
