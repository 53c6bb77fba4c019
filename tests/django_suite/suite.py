"""The labels of Django's suite, and runs of them."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import django

from tests import services
from tests.django_suite.findings import Findings
from tests.django_suite.source import CACHE

# The parts of the suite that evaluate querysets of models.
LABELS = [
    "aggregation", "aggregation_regress", "annotations", "async", "basic", "bulk_create", "composite_pk",
    "constraints", "contenttypes_tests", "custom_columns", "custom_lookups", "custom_managers", "custom_pk",
    "datatypes", "dates", "datetimes", "db_functions", "db_typecasts", "defer", "defer_regress", "delete",
    "distinct_on_fields", "expressions", "expressions_case", "expressions_window", "extra_regress",
    "field_defaults", "field_subclassing", "filtered_relation", "fixtures", "force_insert_update",
    "foreign_object", "from_db_value", "generic_relations", "generic_relations_regress", "get_earliest_or_latest",
    "get_or_create", "indexes", "known_related_objects", "lookup", "m2m_and_m2o", "m2m_intermediary",
    "m2m_multiple", "m2m_recursive", "m2m_regress", "m2m_through", "m2m_through_regress", "m2o_recursive",
    "managers_regress", "many_to_many", "many_to_one", "many_to_one_null", "max_lengths", "model_enums",
    "model_fields", "model_inheritance", "model_inheritance_regress", "model_package", "model_regress",
    "multiple_database", "mutually_referential", "nested_foreign_keys", "null_fk", "null_fk_ordering",
    "null_queries", "one_to_one", "or_lookups", "order_with_respect_to", "ordering", "pagination",
    "postgres_tests", "prefetch_related", "properties", "proxy_model_inheritance", "proxy_models", "queries",
    "queryset_pickle", "raw_query", "reserved_names", "reverse_lookup", "select_for_update", "select_related",
    "select_related_onetoone", "select_related_regress", "serializers", "str", "string_lookup",
    "swappable_models", "timezones", "transactions", "unmanaged_models", "update", "update_only_fields",
    "xor_lookups",
]  # fmt: skip


@dataclass(frozen=True)
class Run:
    """Labels on a database, in a process of its own."""

    database: str
    entry: dict[str, Any]
    zone: str
    labels: tuple[str, ...]
    watched: bool = True

    @property
    def name(self) -> Path:
        how = "watched" if self.watched else "plain"
        return CACHE / f"{self.database}-{django.VERSION[0]}.{django.VERSION[1]}-{how}"

    def start(self, folder: Path) -> "subprocess.Popen[bytes]":
        """Start it; what its processes print is in the file NAME.log."""
        unset = ("DJANGO_SETTINGS_MODULE", "DATABASE_URL", "PYTHONWARNINGS")
        kept = {name: value for name, value in os.environ.items() if name not in unset}
        variables = {
            "PYTHONPATH": str(CACHE.parent),
            "DJANGO_SUITE_DATABASES": json.dumps(_databases(self.entry)),
            "DJANGO_SUITE_ZONE": self.zone,
        }
        Path(f"{self.name}.json").unlink(missing_ok=True)
        how = "watch" if self.watched else "plain"
        command = [sys.executable, "-m", "tests.django_suite.child", str(self.name), how, *self.labels]
        with Path(f"{self.name}.log").open("wb") as log:
            return subprocess.Popen(command, cwd=folder, env=kept | variables, stdout=log, stderr=log)

    def findings(self) -> Findings:
        """Return what the ended process found; raise RuntimeError if it did not come to its end."""
        counts = Path(f"{self.name}.json")
        if not counts.exists():
            raise RuntimeError(f"the suite did not run on {self.database}: see {self.name}.log")
        found = Findings.load(counts, Path(f"{self.name}.differences"))
        if not found.counts["tests"]:
            raise RuntimeError(f"the suite ran no test on {self.database}: see {self.name}.log")
        return found


def _databases(entry: dict[str, Any]) -> dict[str, Any]:
    """Return two databases: the suite has tests of several."""
    if "postgresql" not in entry["ENGINE"]:
        return {"default": entry, "other": entry}
    return {alias: {**entry, "NAME": f"django_suite_{alias}_{os.getpid()}"} for alias in ("default", "other")}


def entry_of(database: str) -> dict[str, Any]:
    """Return the entry of a database by its name; raise OSError if its server cannot be had."""
    if database == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3"}
    entry, reason = services.postgresql()
    if entry is None:
        raise OSError(reason)
    return entry
