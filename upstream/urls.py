from django.contrib import admin
from django.urls import path

from upstream import views

urlpatterns = [
    path("", views.index, name="index"),
    path("admin/", admin.site.urls),
    path("drift-events/", views.DriftEventExport.as_view(), name="drift_events"),
]
