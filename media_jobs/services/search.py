"""Search: a query and the chunks nearest to it, within one vector space."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from embeddings.services.callers import Caller
from embeddings.services.embed import embed
from embeddings.services.errors import Conflict
from embeddings.services.space_watch import drift_sentence
from embeddings.services.types import EmbeddingRequest, EmbeddingResult, Target
from media_jobs.models import MediaItem
from media_jobs.services.filters import NO_FILTERS, Filters, chosen_ids
from media_jobs.services.targets import pinned_target
from media_jobs.vector_store.base import Hit, Space, vector_store


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
    space = _space(caller, query, stored)
    embedded = _embedded(caller, query, space)
    hits = vector_store().search(
        embedded.vectors[0],
        space,
        top_k=query.top_k,
        media_ids=ids,
        text=query.text if query.hybrid else None,
    )
    return SearchResult(found=_with_items(hits), embedded=embedded)


def _space(caller: Caller, query: SearchQuery, stored: Collection[Space]) -> Space:
    """Return the one space to search. Raises Conflict, and what pinned_target raises."""
    if query.model is None and query.provider is None:
        fitting, wanted = list(stored), None
    else:
        target = pinned_target(caller, model=query.model, provider=query.provider)
        wanted = target.label
        fitting = [s for s in stored if s.vector_space == target.model.vector_space]
    if query.dimensions is not None:
        fitting = [s for s in fitting if s.dimensions == query.dimensions]
    made_by = ", ".join(sorted({_label(space) for space in stored}))
    if not fitting:
        raise Conflict(
            f"The vectors of these documents were made by {made_by}"
            f"; those of {wanted or 'this size'} cannot be compared with them.",
            param="model",
        )
    if len({(space.vector_space, space.dimensions) for space in fitting}) > 1:
        raise Conflict(
            f"The vectors of these documents were made in several ways ({made_by})"
            "; say which to search with model and dimensions, or narrow the search.",
            param="model",
        )
    return fitting[0]


def _embedded(caller: Caller, query: SearchQuery, space: Space) -> EmbeddingResult:
    """Embed the query as the stored vectors were. Raises ServiceError, ProviderError."""
    model, provider = query.model, query.provider
    if model is None and provider is None:
        model, provider = space.model, space.provider
    target = pinned_target(caller, model=model, provider=provider)
    _check_space(target, space)
    native = target.model.dimensions == space.dimensions
    result = embed(
        EmbeddingRequest(
            inputs=[query.text],
            caller=caller,
            model=target.model.name,
            provider=target.provider,
            dimensions=None if native else space.dimensions,
            fallback="same_space",
            input_type="query",
            place="query",
        )
    )
    if result.vectors.shape[1] != space.dimensions:
        raise Conflict(
            f"The stored vectors have {space.dimensions} dimensions, the query's {result.vectors.shape[1]}.",
            param="model",
        )
    return result


def _check_space(target: Target, space: Space) -> None:
    """Raise Conflict if what the target gives now may not be compared with the stored vectors."""
    if target.model.drifted:
        raise Conflict(drift_sentence(target.label), param="model")
    if target.model.vector_space != space.vector_space:
        raise Conflict(
            f"The vectors of these documents were made by {_label(space)}, which gives others now;"
            " embed the documents again.",
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
