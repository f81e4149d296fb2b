"""Documents brought in: files dropped or chosen, or a text typed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse

from embeddings.access.caller_lookup import console_caller
from embeddings.console.page import ConsolePage, action
from embeddings.services.callers import Caller
from embeddings.services.errors import ServiceError
from media_jobs.conf import conf
from media_jobs.console.files import read_file
from media_jobs.console.forms import UploadForm
from media_jobs.models import MediaItem
from media_jobs.services.items import CHANGE, NewItem, create_item

ADD = "media_jobs.add_mediaitem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of one file or text: the document, or the reason why there is none."""

    name: str
    item: MediaItem | None = None
    problem: str = ""


class Upload(ConsolePage):
    """The owner is who uploads; who may change documents, and so give them away, may name another owner.

    The quotas are the owner's.
    """

    route = "documents/upload/"
    title = "Upload"
    icon = "upload_file"
    section = "Documents"
    needs = (ADD,)

    def show(self) -> dict[str, Any]:
        return {
            "form": UploadForm(may_choose=self._may_choose()),
            "max_bytes": conf().max_bytes,
        }

    @action(ADD)
    def upload(self, request: HttpRequest) -> HttpResponse:
        """Store what was sent. A script that sends one file at a time asks for JSON."""
        form = UploadForm(request.POST, request.FILES, may_choose=self._may_choose())
        wants_json = request.headers.get("Accept", "") == "application/json"
        if not form.is_valid():
            if wants_json:
                return JsonResponse({"problem": _problems(form)})
            return self.render_to_response(self.get_context_data(form=form))
        taken = list(self._take(form.cleaned_data))
        if wants_json:
            return JsonResponse(_told(taken[0]))
        for one in taken:
            if one.item is None:
                messages.error(request, f"{one.name}: {one.problem}")
        stored = [one.item for one in taken if one.item is not None]
        if stored:
            messages.success(request, f"Stored {len(stored)} of {len(taken)}.")
        return self.render_to_response(self.get_context_data(stored=stored))

    def _may_choose(self) -> bool:
        return bool(self.request.user.has_perm(CHANGE))

    def _take(self, wanted: dict[str, Any]) -> Iterator[Taken]:
        owner: User | None = wanted.get("owner")
        caller = console_caller(owner or self.request.user)
        common = {"language": wanted["language"], "metadata": wanted["metadata"]}
        if not wanted["file"]:
            new = NewItem(title=wanted["title"], content=wanted["text"], **common)
            yield self._stored(caller, wanted["title"], lambda: new)
        for file in wanted["file"]:
            name = file.name or ""
            yield self._stored(
                caller,
                name,
                lambda file=file: read_file(file, title=wanted["title"], **common),
            )

    def _stored(self, caller: Caller, name: str, read: Any) -> Taken:
        try:
            item = create_item(caller, read())
        except ServiceError as error:
            return Taken(name=name, problem=error.message)
        state = {"owner": caller.username, "characters": item.characters}
        self.note("add", f"media item {item}", after=state)
        return Taken(name=name, item=item)


def _told(taken: Taken) -> dict[str, str]:
    if taken.item is None:
        return {"problem": taken.problem}
    link = reverse("console:document", args=[taken.item.pk])
    return {"title": taken.item.title, "link": link}


def _problems(form: UploadForm) -> str:
    return " ".join(
        f"{form.fields[name].label or name}: {' '.join(map(str, errors))}"
        if name in form.fields
        else " ".join(map(str, errors))
        for name, errors in form.errors.items()
    )
