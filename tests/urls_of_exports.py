"""A project that has the pages of exports, and not those of the application."""

from django.urls import include, path

urlpatterns = [path("exports/", include("upstream.jobs.urls"))]
