"""One document: its text with its chunks, its vectors, its jobs; and what can be done to it."""

import json
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse

from embeddings.access.caller_lookup import console_caller
from embeddings.console.charts import Chart, Series
from embeddings.console.page import action
from embeddings.services.callers import Caller
from embeddings.services.errors import NotFound, ServiceError
from media_jobs.console.embedding import embed_documents
from media_jobs.console.files import read_file
from media_jobs.console.forms import EmbedForm, TextForm
from media_jobs.console.job_rows import JobActions, job_rows, may_of
from media_jobs.models import LIVE, MediaItem
from media_jobs.services.items import CHANGE, DELETE, change_item, find_item
from media_jobs.services.jobs import delete_embeddings, visible_jobs
from media_jobs.services.maps import VectorMap, item_map
from media_jobs.services.passages import text_page

SHOWN_JOBS = 10


class Document(JobActions):
    """Whoever may see the document by the API may open it: its owner, and who has the permission to view all."""

    route = "documents/<int:media_id>/"
    title = "Document"
    parts = {"jobs": "console/document_jobs.html"}  # noqa: RUF012

    def show(self) -> dict[str, Any]:
        caller = console_caller(self.request.user)
        item = self._item(caller)
        if self.request.GET.get("part") == "jobs":
            return {"item": item, **self._jobs(caller, item)}
        drawn = item_map(item) if item.embedding_count > 1 else None
        return {
            "item": item,
            "title": item.title,
            "facts": _facts(item),
            "state": state_of(item),
            "metadata": json.dumps(item.metadata, ensure_ascii=False, indent=2),
            "text": text_page(item, **self._wanted_place()),
            "form": EmbedForm(caller=caller),
            "text_form": TextForm(),
            "map": _chart(drawn) if drawn else None,
            "may_change": self.request.user.has_perm(CHANGE),
            "may_delete": self.request.user.has_perm(DELETE),
            **self._jobs(caller, item),
        }

    @action(CHANGE)
    def embed(self, request: HttpRequest) -> HttpResponse | None:
        """Start a job; show the form again where it has mistakes."""
        form = EmbedForm(request.POST, caller=console_caller(request.user))
        if form.is_valid():
            embed_documents(request, [self.kwargs["media_id"]], form.options())
            return None
        return self.render_to_response(self.get_context_data(form=form))

    @action(CHANGE)
    def replace(self, request: HttpRequest) -> HttpResponse | None:
        """Put another text in place of the document's; its vectors stay, and are stale."""
        caller = console_caller(request.user)
        item, form = self._item(caller), TextForm(request.POST, request.FILES)
        if not form.is_valid():
            return self.render_to_response(self.get_context_data(text_form=form))
        try:
            changed = change_item(caller, item.pk, _changes(form))
        except ServiceError as error:
            messages.error(request, error.message)
            return None
        states = ({"checksum": one.checksum} for one in (item, changed))
        before, after = states
        self.note("change", f"media item {item}", before=before, after=after)
        messages.success(request, "Stored the new text.")
        return None

    @action(CHANGE)
    def remove(self, request: HttpRequest) -> None:
        """Remove the document's vectors."""
        caller = console_caller(request.user)
        item = self._item(caller)
        try:
            count = delete_embeddings(caller, item.pk)
        except ServiceError as error:
            messages.error(request, error.message)
            return
        self.note("remove vectors", f"media item {item}", before={"chunks": count})
        messages.success(request, f"Removed {count:,} chunks with their vectors.")

    def _item(self, caller: Caller) -> MediaItem:
        try:
            return find_item(caller, self.kwargs["media_id"])
        except NotFound as error:
            raise Http404(error.message) from error

    def _jobs(self, caller: Caller, item: MediaItem) -> dict[str, Any]:
        jobs = list(visible_jobs(caller).filter(media_id=item.pk)[:SHOWN_JOBS])
        live = any(job.status in LIVE for job in jobs)
        return {"jobs": job_rows(jobs, may_of(self)), "is_live": live}

    def _wanted_place(self) -> dict[str, int]:
        given = self.request.GET
        return {
            name: int(given[name])
            for name in ("page", "chunk")
            if given.get(name, "").isdecimal() and len(given[name]) < 10
        }


def state_of(item: MediaItem) -> tuple[str, str]:
    """Return in a word, with the badge's tone, how a document's vectors stand."""
    if not item.embedding_count:
        return "not embedded", ""
    return ("stale", "warn") if item.is_stale else ("embedded", "good")


def _changes(form: TextForm) -> dict[str, Any]:
    """Return what a valid form changes. Raises ServiceError for a file that cannot be read."""
    file = form.cleaned_data["file"]
    if file is None:
        return {"content": form.cleaned_data["text"]}
    new = read_file(file)
    return {
        "content": new.content,
        "warnings": list(new.warnings),
        "source_filename": new.source_filename,
    }


def _facts(item: MediaItem) -> dict[str, Any]:
    maker = f"{item.embedding_provider}:{item.embedding_model}"
    embedded = item.embedding_count > 0
    return {
        "Number": item.pk,
        "Owner": item.owner or "the single user",
        "Language": item.language or "not given",
        "File": item.source_filename or "none",
        "Characters": f"{item.characters:,}",
        "Chunks": f"{item.embedding_count:,}",
        "Model": maker if embedded else "none",
        "Vector space": item.vector_space or "none",
        "Dimensions": item.dimensions or "none",
        "Model's revision": item.embedded_revision or "not kept",
    }


def _chart(drawn: VectorMap) -> Chart:
    names = [f"{point.chunk_index}: {point.name}" for point in drawn.points]
    sample = ""
    if drawn.total > len(drawn.points):
        sample = f" {len(drawn.points):,} of {drawn.total:,}, evenly spread."
    return Chart(
        id="map",
        title=f"Map of the chunks.{sample} It shows {drawn.share:.0%} of how they differ.",
        kind="scatter",
        series=[
            Series(
                name="Chunks",
                values=[(point.x, point.y) for point in drawn.points],
                names=names,
            )
        ],
        labels=names,
        summary="Near points are chunks whose vectors are alike.",
    )
