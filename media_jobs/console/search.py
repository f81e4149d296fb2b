"""Search in the documents, by meaning and by words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse

from embeddings.access.caller_lookup import console_caller
from embeddings.access.throttling import ConsoleUse, RateLimited
from embeddings.console.page import ConsolePage
from embeddings.services.callers import Caller
from embeddings.services.errors import ServiceError
from media_jobs.console.forms import SearchForm
from media_jobs.services.search import Found, SearchQuery, search, surroundings
from media_jobs.vector_store.full_text import marked
from media_jobs.vector_store.store import vector_store
from providers.exceptions import ProviderError

AROUND_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class HitRow:
    """One hit. `pieces`: of its text, each with whether it is a word that was asked for."""

    media_id: int
    title: str
    chunk_index: int
    score: str
    before: str
    pieces: Sequence[tuple[str, bool]]
    after: str


class Search(ConsolePage):
    """All staff may search, in the documents that the API would show them; it counts as their own use of the model.

    A search is posted, so that what is asked stands in no address and no log.
    """

    route = "documents/search/"
    title = "Search"
    icon = "search"
    section = "Documents"
    parts = {"result": "console/search_result.html"}  # noqa: RUF012

    def show(self) -> dict[str, Any]:
        return {
            "form": SearchForm(caller=console_caller(self.request.user)),
            "slow_searches": vector_store().slow_searches(),
        }

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Search, and show the hits: within the page, or as the part that was asked for."""
        caller = console_caller(request.user)
        form = SearchForm(request.POST, caller=caller)
        shown: dict[str, Any] = {"form": form, "asked": True}
        if form.is_valid():
            shown |= _outcome(caller, form.query())
        return self.render_to_response(self.get_context_data(**shown))


def _outcome(caller: Caller, query: SearchQuery) -> dict[str, Any]:
    try:
        use = ConsoleUse(caller)
        result = search(caller, query)
    except (ServiceError, ProviderError) as error:
        return {"problem": error.message}
    except RateLimited as error:
        return {"problem": str(error.detail)}
    if result.embedded is None:
        return {"hits": [], "nothing_stored": True}
    use.charge(result.embedded.prompt_tokens)
    around = surroundings(result.found, AROUND_CHARACTERS)
    return {
        "hits": [_row(one, query, around) for one in result.found],
        "answered_by": result.embedded.target,
    }


def _row(
    one: Found, query: SearchQuery, around: dict[tuple[int, int], tuple[str, str]]
) -> HitRow:
    before, after = around.get((one.item.pk, one.hit.chunk_index), ("", ""))
    words = query.text if query.hybrid else ""
    return HitRow(
        media_id=one.item.pk,
        title=one.item.title,
        chunk_index=one.hit.chunk_index,
        score=f"{one.hit.score:.4f}",
        before=f"…{before}" if len(before) == AROUND_CHARACTERS else before,
        pieces=marked(words, one.hit.text),
        after=f"{after}…" if len(after) == AROUND_CHARACTERS else after,
    )
