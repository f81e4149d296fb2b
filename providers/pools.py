"""Which providers may serve in place of another: the members of its pool, each by what its canary found.

A pool is a provider of which other rows say that they share its vector space. Nobody takes their word for it: a member
may serve a model once its answers to the canary's texts were those of the pool.
"""

from collections.abc import Sequence

from django.conf import settings

from providers.base import ModelSpec, Provider
from providers.canary import address_key
from providers.operator_settings import OperatorSettings


def unlike(pool: Provider, member: type[Provider]) -> str | None:
    """Say why a provider of this kind cannot stand in for `pool`, whatever its vectors are, or None.

    The canary sees documents alone, so kinds that treat queries otherwise may not be mixed.
    """
    if pool.local or member.local:
        return "A provider whose models run here is in no pool."
    if type(pool) is member or (pool.plain and member.plain):
        return None
    return f"It is of a kind that asks for queries in another way than {pool.name}."


def unfit(pool: Provider, member: Provider, operator: OperatorSettings) -> str | None:
    """Say why the vectors of a member need not even be compared, or None."""
    if not operator.allows_provider(member.name):
        return f"{member.name} is switched off, or the allowlist leaves it out."
    if problem := unlike(pool, type(member)) or member.configuration_problem():
        return problem
    if not settings.EMBEDDINGS_CANARY:
        return "EMBEDDINGS_CANARY is off, so nobody knows what vectors it gives."
    return None


def not_admitted(
    pool: Provider, member: Provider, model: ModelSpec, operator: OperatorSettings
) -> str | None:
    """Say why `member` may not serve `model` of `pool`, or None: as far as the last checks go, it may."""
    address = address_key(member.address())
    if member.name == pool.name:
        space = operator.spaces.get((pool.name, model.name, address))
        drifted = space is not None and space.drifted
        return "Its vectors have drifted from their space." if drifted else None
    if problem := unfit(pool, member, operator):
        return problem
    found = operator.admissions.get((pool.name, member.name, model.name, address))
    if found is None or found.revision != model.space_revision:
        return "Its vectors have not been compared with the pool's yet."
    return "It gives other vectors than the pool." if found.drifted else None


def is_served(
    pool: Provider,
    members: Sequence[Provider],
    model: ModelSpec,
    operator: OperatorSettings,
) -> bool:
    """Whether a member other than the pool's own provider may serve `model`."""
    return any(not_admitted(pool, one, model, operator) is None for one in members)
