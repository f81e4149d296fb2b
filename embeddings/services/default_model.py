"""Which model serves requests that name none, as operators choose it."""

from django.db import transaction

from embeddings.services.errors import NotAllowed
from embeddings.services.routing import find_target, refusal
from embeddings.services.types import Target
from providers.models import ModelEntry
from providers.seeding import entry_of


def make_default(provider: str, model: str) -> tuple[str | None, Target]:
    """Make a model the default; return the label of the entry that was, if one was, and the new default.

    Raises InvalidRequest, ModelNotFound, or NotAllowed where callers may not use it.
    """
    target = find_target(model=model, provider=provider)
    owner, name = target.provider.name, target.model.name
    if reason := refusal(owner, name):
        raise NotAllowed(f"{reason} It cannot be the default until it is allowed.")
    with transaction.atomic():
        others = ModelEntry.objects.filter(is_default=True)
        former = others.first()
        others.update(is_default=False)
        entry = ModelEntry.objects.filter(provider=owner, name=name).first()
        if entry is None:
            entry = entry_of(owner, target.model)
            # Its revision is not the operator's to fix; no model's name holds a "#".
            entry.vector_space = entry.vector_space.partition("#")[0]
        entry.is_default = True
        entry.save()
    return (str(former) if former else None), target
