"""What a client may send about jobs."""

from typing import Any

from rest_framework import serializers

from embeddings.api.credential_serializers import StrictBooleanField
from embeddings.api.serializers import (
    MAX_DIMENSIONS,
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
)
from media_jobs.api.serializers import PageSerializer
from media_jobs.conf import conf
from media_jobs.models import Job
from media_jobs.services.jobs import JobOptions

MIN_CHUNK, MAX_CHUNK = 50, 20_000
MAX_PRIORITY = 100
MAX_BATCH = 1000
MAX_ID = 2**63 - 1


class JobSerializer(StrictSerializer):
    """The body of `POST /media/{id}/embeddings`; every field may be left out."""

    embedding_model = StrictCharField(max_length=512, required=False)
    embedding_provider = StrictCharField(max_length=64, required=False)
    chunk_size = StrictIntegerField(
        min_value=MIN_CHUNK, max_value=MAX_CHUNK, required=False
    )
    chunk_overlap = StrictIntegerField(min_value=0, max_value=MAX_CHUNK, required=False)
    dimensions = StrictIntegerField(
        min_value=1, max_value=MAX_DIMENSIONS, required=False
    )
    force_regenerate = StrictBooleanField(required=False)
    priority = StrictIntegerField(
        min_value=-MAX_PRIORITY, max_value=MAX_PRIORITY, required=False
    )
    webhook_url = StrictCharField(max_length=2000, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        size = attrs.setdefault("chunk_size", conf().chunk_size)
        usual = min(conf().chunk_overlap, size // 5)
        if attrs.setdefault("chunk_overlap", usual) >= size:
            raise serializers.ValidationError(
                {"chunk_overlap": "must be less than chunk_size."}
            )
        return attrs


class JobBatchSerializer(JobSerializer):
    """The body of `POST /media/embeddings/batch`."""

    media_ids = serializers.ListField(
        child=StrictIntegerField(min_value=1, max_value=MAX_ID),
        min_length=1,
        max_length=MAX_BATCH,
    )


class JobQuerySerializer(PageSerializer):
    """The query of `GET /media/embeddings/jobs`."""

    status = serializers.ChoiceField(Job.Status.values, required=False)
    media_id = serializers.IntegerField(min_value=1, max_value=MAX_ID, required=False)


def job_options(body: dict[str, Any]) -> JobOptions:
    """Return what a checked body asks for."""
    return JobOptions(
        model=body.get("embedding_model"),
        provider=body.get("embedding_provider"),
        chunk_size=body["chunk_size"],
        chunk_overlap=body["chunk_overlap"],
        dimensions=body.get("dimensions"),
        force=body.get("force_regenerate", False),
        priority=body.get("priority", 0),
        webhook_url=body.get("webhook_url", ""),
    )
