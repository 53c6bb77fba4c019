"""The pages of exports: include them where users are logged in, such as at "exports/"."""

from django.urls import path

from upstream.jobs import views

app_name = "upstream_jobs"

urlpatterns = [
    path("", views.MyExports.as_view(), name="list"),
    path("<uuid:pk>/", views.OneExport.as_view(), name="job"),
    path("<uuid:pk>/cancel/", views.Cancel.as_view(), name="cancel"),
    path("<uuid:pk>/retry/", views.Retry.as_view(), name="retry"),
    path("<uuid:pk>/download/", views.Download.as_view(), name="download"),
    path("file/<str:token>/", views.File.as_view(), name="file"),
]
