from django.apps import apps
from django.contrib import admin
from django.urls import include, path

from upstream import views

urlpatterns = [
    path("", views.index, name="index"),
    path("admin/", admin.site.urls),
    path("drift-events/", views.DriftEventExport.as_view(), name="drift_events"),
]

if apps.is_installed("drf_spectacular"):
    urlpatterns.append(path("api/", include("upstream.api")))
