"""The settings of the application, in processes whose environment decides them."""

from tests import processes


def test_a_database_url_without_the_package_that_reads_it_says_what_to_install(tmp_path):
    code = """
import sys
sys.modules["dj_database_url"] = None  # whoever imports it gets ModuleNotFoundError
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "check"])
"""
    variables = {
        "DATABASE_URL": f"sqlite:///{tmp_path}/site.sqlite3",
        "DJANGO_SETTINGS_MODULE": "upstream.settings",
    }
    result = processes.run("-c", code, variables=variables)
    assert result.returncode != 0
    last = result.stderr.decode().splitlines()[-1]
    assert last.startswith(
        "upstream.streaming.errors.MissingDependencyError: dj_database_url cannot be imported ("
    )
    assert last.endswith("): python -m pip install 'upstream[demo]'")
