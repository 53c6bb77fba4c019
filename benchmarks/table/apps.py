from django.apps import AppConfig


class TableConfig(AppConfig):
    name = "benchmarks.table"
    label = "benchmarks"
