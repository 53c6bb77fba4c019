"""A project that has exports, and no pages for those in the background."""

from django.urls import path

from upstream.views import exports

urlpatterns = [path("customers/export/", exports.CustomerExport.as_view(), name="customer_export")]
