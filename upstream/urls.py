from django.contrib import admin
from django.urls import path

from upstream import views

urlpatterns = [
    path("", views.index, name="index"),
    path("admin/", admin.site.urls),
    *(
        path(f"drift-events.{suffix}", views.drift_events, {"suffix": suffix}, name="drift_events")
        for suffix in views.ENCODERS
    ),
]
