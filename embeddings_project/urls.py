"""Every path of the server."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularSwaggerSplitView

from embeddings.api.views.document import ShowDocument
from embeddings.api.views.operations import (
    ShowLiveness,
    ShowPrometheus,
    ShowReadiness,
)
from embeddings.console.page import urls

urlpatterns = [
    # In the order of use: what comes before a path is compared with each request for it.
    path("api/v1/", include("embeddings.api.urls")),
    path("api/v1/", include("media_jobs.api.urls")),
    path("", RedirectView.as_view(pattern_name="docs")),
    path("healthz", ShowLiveness.as_view()),
    path("readyz", ShowReadiness.as_view()),
    path("metrics", ShowPrometheus.as_view()),
    path("openapi.json", ShowDocument.as_view(), name="openapi"),
    path("docs", SpectacularSwaggerSplitView.as_view(url_name="openapi"), name="docs"),
    path("admin/", include((urls(), "console"))),
    path("admin/", admin.site.urls),
]

handler400 = "embeddings.api.exception_handler.bad_request"
handler403 = "embeddings_project.error_pages.forbidden"
handler404 = "embeddings_project.error_pages.not_found"
handler500 = "embeddings_project.error_pages.server_error"
