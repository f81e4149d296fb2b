"""The media paths, below `/api/v1`. A trailing slash is taken off before they are matched."""

from django.urls import path

from media_jobs.api import item_views, job_views, search_views

urlpatterns = [
    path("media", item_views.MediaItems.as_view()),
    path("media/quota", item_views.ShowQuota.as_view()),
    path("media/<int:media_id>", item_views.ShowMediaItem.as_view()),
    path("media/<int:media_id>/embeddings", job_views.MediaEmbeddings.as_view()),
    path(
        "media/<int:media_id>/embeddings/status",
        job_views.ShowMediaEmbeddings.as_view(),
    ),
    path("media/embeddings/batch", job_views.StartBatch.as_view()),
    path("media/embeddings/search", search_views.SearchMedia.as_view()),
    path("media/embeddings/jobs", job_views.ListJobs.as_view()),
    path("media/embeddings/jobs/<str:job_id>", job_views.ShowJob.as_view()),
    path("media/embeddings/jobs/<str:job_id>/cancel", job_views.CancelJob.as_view()),
]
