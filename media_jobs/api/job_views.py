"""Embedding documents over HTTP: jobs, their state, and the vectors they leave."""

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from embeddings.access.authentication import caller_of
from embeddings.access.throttling import LimitedView
from embeddings.fast_path.rest_framework import validated
from media_jobs.api.item_views import MediaView, validated_query
from media_jobs.api.media_answers import (
    EmbeddingsDeleted,
    EmbeddingsStatus,
    JobPage,
    JobReport,
    JobsStarted,
    JobStarted,
    job_report,
    page_of,
    start_report,
    status_report,
)
from media_jobs.api.media_serializers import (
    JobBatchSerializer,
    JobQuerySerializer,
    JobSerializer,
    job_options,
)
from media_jobs.services.items import find_item
from media_jobs.services.jobs import (
    cancel_job,
    delete_embeddings,
    find_job,
    live_job,
    start_job,
    start_jobs,
    visible_jobs,
)

STARTED = {200: JobStarted, 202: JobStarted}
LOCAL_MODEL = {
    "embedding_model": "sentence-transformers/all-MiniLM-L6-v2",
    "embedding_provider": "huggingface",
    "chunk_size": 1000,
    "chunk_overlap": 200,
}


class MediaEmbeddings(MediaView, LimitedView):
    """The vectors of one document."""

    more_errors = (409,)

    @extend_schema(
        operation_id="start_media_embeddings",
        request=JobSerializer,
        responses=STARTED,
        examples=[
            OpenApiExample("The local model", value=LOCAL_MODEL, request_only=True)
        ],
    )
    def post(self, request: Request, media_id: int) -> Response:
        """Start a job that embeds a document. The same job is not made twice, unless `force_regenerate` is set."""
        wanted = job_options(validated(JobSerializer, request))
        started = start_job(caller_of(request), media_id, wanted)
        return Response(start_report(started), status=202 if started.is_new else 200)

    @extend_schema(
        operation_id="delete_media_embeddings",
        responses={200: EmbeddingsDeleted},
    )
    def delete(self, request: Request, media_id: int) -> Response:
        """Remove a document's vectors, and cancel its jobs."""
        deleted = delete_embeddings(caller_of(request), media_id)
        return Response(EmbeddingsDeleted(media_id=media_id, deleted_count=deleted))


class ShowMediaEmbeddings(MediaView):
    """Show what vectors a document has, and the job it waits for."""

    @extend_schema(
        operation_id="media_embeddings_status",
        responses={200: EmbeddingsStatus},
    )
    def get(self, request: Request, media_id: int) -> Response:
        item = find_item(caller_of(request), media_id)
        return Response(status_report(item, live_job(item.pk)))


class StartBatch(MediaView, LimitedView):
    """Start a job for each of several documents: for all, or on any error for none."""

    more_errors = (409,)

    @extend_schema(
        operation_id="start_media_embeddings_batch",
        request=JobBatchSerializer,
        responses={200: JobsStarted, 202: JobsStarted},
        examples=[
            OpenApiExample(
                "Two documents", value={"media_ids": [1, 2]}, request_only=True
            )
        ],
    )
    def post(self, request: Request) -> Response:
        body = validated(JobBatchSerializer, request)
        started = start_jobs(caller_of(request), body["media_ids"], job_options(body))
        return Response(
            JobsStarted(
                jobs=[start_report(one) for one in started], count=len(started)
            ),
            status=202 if any(one.is_new for one in started) else 200,
        )


class ListJobs(MediaView):
    """List the caller's jobs, newest first."""

    @extend_schema(
        operation_id="list_media_jobs",
        parameters=[JobQuerySerializer],
        responses={200: JobPage},
    )
    def get(self, request: Request) -> Response:
        query = validated_query(JobQuerySerializer, request)
        part = {name: query.pop(name) for name in ("limit", "offset")}
        return Response(
            page_of(
                JobPage,
                job_report,
                visible_jobs(caller_of(request)).filter(**query),
                **part,
            )
        )


class ShowJob(MediaView):
    """Show one job."""

    @extend_schema(operation_id="show_media_job", responses={200: JobReport})
    def get(self, request: Request, job_id: str) -> Response:
        return Response(job_report(find_job(caller_of(request), job_id)))


class CancelJob(MediaView):
    """Cancel a job that waits or runs. One that has ended otherwise is 409."""

    more_errors = (409,)

    @extend_schema(
        operation_id="cancel_media_job", request=None, responses={200: JobReport}
    )
    def post(self, request: Request, job_id: str) -> Response:
        return Response(job_report(cancel_job(caller_of(request), job_id)))
