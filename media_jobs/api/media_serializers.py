"""What a client may send about documents and jobs."""

from typing import Any, cast
from unicodedata import normalize

import orjson
from django.core.files.uploadedfile import UploadedFile
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from embeddings.api.serializers import (
    MAX_DIMENSIONS,
    StrictBooleanField,
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
)
from media_jobs.api.upload_parsers import parsed_metadata
from media_jobs.conf import conf
from media_jobs.metadata import MAX_BYTES, problem_of
from media_jobs.models import Job
from media_jobs.services.jobs import (
    MAX_BATCH,
    MAX_CHUNK,
    MAX_PRIORITY,
    MIN_CHUNK,
    JobOptions,
    usual_overlap,
)

MAX_LIMIT = 200
DEFAULT_LIMIT = 50
MAX_OFFSET = 2**31 - 1
MAX_ID = 2**63 - 1


@extend_schema_field({"type": "object", "additionalProperties": True})
class MetadataField(serializers.Field[dict[str, Any], Any, Any, Any]):
    """A JSON object of bounded size and depth."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if problem := problem_of(data):
            raise serializers.ValidationError(problem)
        if len(orjson.dumps(data)) > MAX_BYTES:
            raise serializers.ValidationError(
                f"must have at most {MAX_BYTES} bytes as JSON."
            )
        return cast("dict[str, Any]", data)


class FormMetadataField(MetadataField):
    """The same as a form sends it: as JSON text."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        return super().to_internal_value(parsed_metadata(str(data)))


@extend_schema_field({"type": "string", "format": "binary"})
class UploadField(serializers.Field["UploadedFile[Any]", Any, Any, Any]):
    """The file of a form."""

    def to_internal_value(self, data: Any) -> "UploadedFile[Any]":
        if not isinstance(data, UploadedFile):
            raise serializers.ValidationError("must be a file.")
        return data


class NameField(StrictCharField):
    """A title or a file's name, in Unicode's normal form C, and not over its length there."""

    def to_internal_value(self, data: Any) -> str:
        return normalize("NFC", super().to_internal_value(data))


class NewItemSerializer(StrictSerializer):
    """The JSON body of `POST /media`."""

    title = NameField(max_length=500)
    content = StrictCharField()
    metadata = MetadataField(required=False)
    language = StrictCharField(max_length=35, required=False)
    source_filename = NameField(max_length=255, required=False)


class UploadSerializer(StrictSerializer):
    """The form of `POST /media`; without a title, the file's name is the title."""

    file = UploadField()
    title = NameField(max_length=500, required=False)
    metadata = FormMetadataField(required=False)
    language = StrictCharField(max_length=35, required=False)

    def _sent(self, data: Any) -> Any:
        """Take what stands for null in a form, an empty field and the text `null` as metadata, for null."""
        if isinstance(data, dict):
            empty = {name for name in self._optional & data.keys() if not data[name]}
            if str(data.get("metadata")).strip() == "null":
                empty.add("metadata")
            data = data | dict.fromkeys(empty)
        return super()._sent(data)


class ItemChangesSerializer(StrictSerializer):
    """The body of `PATCH /media/{id}`."""

    title = NameField(max_length=500, required=False)
    content = StrictCharField(required=False)
    metadata = MetadataField(required=False)
    language = StrictCharField(max_length=35, allow_blank=True, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise serializers.ValidationError(
                f"Send at least one of {', '.join(self.fields)}."
            )
        return attrs


class PageSerializer(serializers.Serializer[Any]):
    """Which part of a list is wanted."""

    limit = serializers.IntegerField(
        min_value=1, max_value=MAX_LIMIT, default=DEFAULT_LIMIT
    )
    offset = serializers.IntegerField(min_value=0, max_value=MAX_OFFSET, default=0)


class ContentQuerySerializer(serializers.Serializer[Any]):
    """The query of `GET /media/{id}`."""

    content = serializers.BooleanField(default=True)


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
        if attrs.setdefault("chunk_overlap", usual_overlap(size)) >= size:
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
