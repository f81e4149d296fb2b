"""The media paths, below `/api/v1`. A trailing slash is taken off before they are matched."""

from django.urls import path

from media_jobs.api import items

urlpatterns = [
    path("media", items.MediaItems.as_view()),
    path("media/<int:media_id>", items.ShowMediaItem.as_view()),
]
