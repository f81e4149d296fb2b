"""Pools as operators see them: who is in each, which models it was admitted for, and why not for others."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from embeddings.services import request_metrics
from embeddings.services.breaker_states import BreakerWord
from embeddings.services.monitoring import calls_in_flight
from providers import metrics
from providers.models import Breaker, RemoteSpace
from providers.operator_settings import operator_settings
from providers.pools import not_admitted, unfit
from providers.registry import registry

# The last used of a pool's models; names that are passed on can be very many.
SHOWN_MODELS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """One model at one member. `problem`: why it does not serve it, or None; `cosine` to the pool at the last check."""

    model: str
    problem: str | None
    cosine: float | None = None
    checked_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberState:
    """One member of a pool, whose own provider is the first. `problem`: why it serves no model, or None.

    `in_flight`: calls of all this machine's processes.
    """

    name: str
    in_flight: int
    breaker: BreakerWord
    problem: str | None
    models: tuple[Admission, ...]

    @property
    def admitted(self) -> list[Admission]:
        return [one for one in self.models if one.problem is None]

    @property
    def refused(self) -> list[Admission]:
        return [one for one in self.models if one.problem is not None]


def pool_states() -> dict[str, tuple[MemberState, ...]]:
    """Return the members of each pool. A fixed number of queries, none where there is no pool."""
    pools = {name for name in operator_settings().pools if registry().get(name)}
    if not pools:
        return {}
    found: dict[tuple[str, str], list[RemoteSpace]] = defaultdict(list)
    rows = RemoteSpace.objects.defer("reference", "seen").order_by("-checked_at")
    names = pools.union(*(operator_settings().pools[pool] for pool in pools))
    for row in rows.filter(provider__in=names):
        found[row.pool or row.provider, row.provider].append(row)
    open_ones = dict(Breaker.objects.values_list("provider", "state"))
    calls = calls_in_flight()
    return {
        pool: tuple(
            MemberState(
                name=name,
                in_flight=calls.get((pool, name), 0),
                breaker=open_ones.get(name, "closed"),  # type: ignore[arg-type]
                problem=_problem(pool, name),
                models=tuple(_admissions(pool, name, found)),
            )
            for name in (pool, *operator_settings().pools[pool])
        )
        for pool in sorted(pools)
    }


def show_pools() -> None:
    """Have the metrics show who serves what; models that nobody listed are shown as one. Raises DatabaseError."""
    for pool, members in pool_states().items():
        provider = registry().get(pool)
        if provider is None:
            continue
        for member in members:
            serving: dict[str, bool] = {}
            for one in member.models:
                label = request_metrics.listed_name(provider, one.model)
                serving[label] = serving.get(label, True) and one.problem is None
            for label, admitted in serving.items():
                metrics.pool_admitted.labels(pool, member.name, label).set(admitted)


def _problem(pool: str, name: str) -> str | None:
    own, member = registry().get(pool), registry().get(name)
    if own is None or member is None:
        return "It is not known here yet."
    if name == pool:
        return None
    return unfit(own, member, operator_settings())


def _admissions(
    pool: str, name: str, found: dict[tuple[str, str], list[RemoteSpace]]
) -> list[Admission]:
    """Return the pool's models as far as they were used, and what is known of each at one member."""
    own, member = registry().get(pool), registry().get(name)
    rows = {row.model: row for row in found[pool, name]}
    admissions: list[Admission] = []
    for used in found[pool, pool][:SHOWN_MODELS]:
        spec = registry().resolve(own, used.model) if own else None
        if own is None or member is None or spec is None:
            continue
        row = rows.get(used.model)
        problem = not_admitted(own, member, spec, operator_settings())
        if problem and row and row.last_error:
            problem = f"{problem} {row.last_error}"
        admissions.append(
            Admission(
                model=used.model,
                problem=problem,
                cosine=row.cosine if row else None,
                checked_at=row.checked_at if row else None,
            )
        )
    return admissions
