"""The prompts that a model's card recommends, taken for it where its own files name others or none."""

from django.db import transaction

from embeddings.services.routing import find_target
from embeddings.services.types import Target
from providers.base import ModelSpec, Provider
from providers.models import ModelEntry
from providers.registry import registry
from providers.seeding import entry_of


def take_recommended_prompts(provider: str, model: str) -> Target | None:
    """Have a model use its card's prompts from now on; return it as it was, None where there is nothing to change.

    All local providers that list it are changed, so that they stay one vector space; it is another than before. Raises
    InvalidRequest or ModelNotFound.
    """
    target = find_target(model=model, provider=provider)
    if target.model.recommended_prompts is None:
        return None
    name = target.model.name
    with transaction.atomic():
        for local in (one for one in registry().all() if one.local):
            own = local.resolve(name)
            if own is not None and own.name == name:
                _take(local, own)
    return target


def _take(provider: Provider, own: ModelSpec) -> None:
    if own.card is None:
        return
    entry = ModelEntry.objects.filter(provider=provider.name, name=own.name).first()
    entry = entry or entry_of(provider.name, own)
    # What its files say already is left to them.
    query, document = own.card.query_prompt, own.card.document_prompt
    entry.query_prompt = query if query != own.query_prompt else None
    entry.document_prompt = document if document != own.document_prompt else None
    entry.save()
