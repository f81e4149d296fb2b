"""The media paths, below `/api/v1`. A trailing slash is taken off before they are matched."""

from django.urls import path

from media_jobs.api import items, jobs, search

urlpatterns = [
    path("media", items.MediaItems.as_view()),
    path("media/quota", items.ShowQuota.as_view()),
    path("media/<int:media_id>", items.ShowMediaItem.as_view()),
    path("media/<int:media_id>/embeddings", jobs.MediaEmbeddings.as_view()),
    path("media/<int:media_id>/embeddings/status", jobs.ShowMediaEmbeddings.as_view()),
    path("media/embeddings/batch", jobs.StartBatch.as_view()),
    path("media/embeddings/search", search.SearchMedia.as_view()),
    path("media/embeddings/jobs", jobs.ListJobs.as_view()),
    path("media/embeddings/jobs/<str:job_id>", jobs.ShowJob.as_view()),
    path("media/embeddings/jobs/<str:job_id>/cancel", jobs.CancelJob.as_view()),
]
