"""Search: a query and the chunks nearest to it, within one vector space."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from django.db.models import Value
from django.db.models.functions import Substr

from embeddings.services.callers import Caller
from embeddings.services.embed import embed
from embeddings.services.errors import Conflict
from embeddings.services.routing import found_again
from embeddings.services.space_watch import drift_sentence
from embeddings.services.types import EmbeddingRequest, EmbeddingResult, Target
from media_jobs.models import MediaItem
from media_jobs.services.filters import NO_FILTERS, Filters, chosen_ids
from media_jobs.services.targets import pinned_target
from media_jobs.vector_store.base import Hit, Space
from media_jobs.vector_store.store import vector_store
from providers.base import InputType


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuery:
    """What is looked for, and where. `hybrid`: by words, too. `model` None: the one that made the stored vectors."""

    text: str
    top_k: int = 10
    media_ids: Sequence[int] | None = None
    filters: Filters = NO_FILTERS
    model: str | None = None
    provider: str | None = None
    dimensions: int | None = None
    hybrid: bool = False
    input_type: InputType = "query"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One hit and its document."""

    hit: Hit
    item: MediaItem


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """Hits, best first. `embedded` is None where nothing is stored, so that nothing had to be embedded."""

    found: list[Found]
    embedded: EmbeddingResult | None


def search(caller: Caller, query: SearchQuery) -> SearchResult:
    """Find the chunks nearest to the query. Raises ServiceError; Conflict where the vectors cannot be compared."""
    ids = chosen_ids(caller, media_ids=query.media_ids, filters=query.filters)
    stored = () if ids is not None and not ids else vector_store().stats(ids).spaces
    if not stored:
        return SearchResult(found=[], embedded=None)
    target, space = _target_and_space(caller, query, stored)
    embedded = _embedded(caller, query, target, space)
    hits = vector_store().search(
        embedded.vectors[0],
        space,
        top_k=query.top_k,
        media_ids=ids,
        text=query.text if query.hybrid else None,
    )
    return SearchResult(found=_with_items(hits), embedded=embedded)


def surroundings(
    found: Sequence[Found], characters: int
) -> dict[tuple[int, int], tuple[str, str]]:
    """Return what stands before and after each hit in its document, by its document's id and its chunk's number.

    Hits in documents whose text has changed since are left out.
    """
    pieces = [
        MediaItem.objects.filter(pk=one.item.pk)
        .order_by()
        .values_list(
            "pk",
            Value(one.hit.chunk_index),
            Substr("content", start + 1, one.hit.start - start),
            Substr("content", one.hit.end + 1, characters),
        )
        for one in found
        if one.item.embedded_checksum == one.item.checksum
        for start in [max(0, one.hit.start - characters)]
    ]
    if not pieces:
        return {}
    first, *others = pieces
    rows = first.union(*others, all=True)
    return {(pk, index): (before, after) for pk, index, before, after in rows}


def _target_and_space(
    caller: Caller, query: SearchQuery, stored: Collection[Space]
) -> tuple[Target, Space]:
    """Return who embeds the query, and the one space to search. Raises Conflict, and what pinned_target raises."""
    if query.model is None and query.provider is None:
        space = _only(query, stored, stored, wanted="this size")
        return _maker(caller, space, stored), space
    target = pinned_target(caller, model=query.model, provider=query.provider)
    fitting = [s for s in stored if s.vector_space == target.model.vector_space]
    for space in stored:
        is_its = (space.provider, space.model) == (
            target.provider.name,
            target.model.name,
        )
        if is_its and not fitting:
            raise _outdated(space)
    return target, _only(query, fitting, stored, wanted=target.label)


def _only(
    query: SearchQuery,
    fitting: Collection[Space],
    stored: Collection[Space],
    *,
    wanted: str,
) -> Space:
    """Return the one of `fitting` spaces that the query may mean. Raises Conflict."""
    if query.dimensions is not None:
        fitting = [s for s in fitting if s.dimensions == query.dimensions]
    made_by = ", ".join(sorted({_label(space) for space in stored}))
    if not fitting:
        raise Conflict(
            f"The vectors of these documents were made by {made_by}"
            f"; those of {wanted} cannot be compared with them.",
            param="model",
        )
    if len({(space.vector_space, space.dimensions) for space in fitting}) > 1:
        raise Conflict(
            f"The vectors of these documents were made in several ways ({made_by})"
            "; say which to search with model and dimensions, narrow the search, or embed those that are stale again.",
            param="model",
        )
    return next(iter(fitting))


def _maker(caller: Caller, space: Space, stored: Collection[Space]) -> Target:
    """Return the model that made the vectors of `space`, as long as its vectors still lie there. Raises Conflict."""
    makers = [s for s in stored if s.vector_space == space.vector_space]
    for made_by in makers:
        target = pinned_target(caller, model=made_by.model, provider=made_by.provider)
        if target.model.vector_space == space.vector_space:
            return target
    raise _outdated(space)


def _embedded(
    caller: Caller, query: SearchQuery, target: Target, space: Space
) -> EmbeddingResult:
    """Embed the query as the stored vectors were. Raises ServiceError, ProviderError."""
    if target.model.drifted:
        raise Conflict(drift_sentence(target.label), param="model")
    native = target.model.dimensions == space.dimensions
    result = embed(
        EmbeddingRequest(
            inputs=[query.text],
            caller=caller,
            target=target,
            dimensions=None if native else space.dimensions,
            fallback="same_space",
            input_type=query.input_type,
            place="query",
        )
    )
    # Somebody may have changed the model while it was asked.
    if found_again(result.target).model.vector_space != space.vector_space:
        raise _outdated(space)
    if result.vectors.shape[1] != space.dimensions:
        raise Conflict(
            f"The stored vectors have {space.dimensions} dimensions, the query's {result.vectors.shape[1]}.",
            param="model",
        )
    return result


def _outdated(space: Space) -> Conflict:
    return Conflict(
        f"{space.provider}:{space.model} makes vectors now that cannot be compared with those of these documents"
        ": embed the documents again.",
        param="model",
    )


def _with_items(hits: Sequence[Hit]) -> list[Found]:
    items = MediaItem.objects.defer("content").in_bulk({hit.media_id for hit in hits})
    return [
        Found(hit=hit, item=items[hit.media_id])
        for hit in hits
        if hit.media_id in items  # it may have been deleted in this moment
    ]


def _label(space: Space) -> str:
    return f"{space.provider}:{space.model} ({space.dimensions} dimensions)"
