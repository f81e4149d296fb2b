"""Calls to a pool: to the member with the fewest calls under way, in turn, and to another where it fails.

Who may serve is what canaries found (`providers.pools`), and more: a member whose breaker is not closed is left alone,
and so is one that failed here, until its canary has been answered with the pool's vectors again. Requests never probe
a member; the checks that they ask for do, in threads beside them. Calls under way are counted by process.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

import structlog
from django.db import DatabaseError, InterfaceError

from embeddings.services.space_watch import SpaceWatch, space_watch, start_thread
from providers import breaker, metrics
from providers.base import Embedded, InputType, ModelSpec, Provider, replaceable
from providers.canary import canary
from providers.exceptions import (
    BreakerOpen,
    Overloaded,
    ProviderError,
    ProviderThrottled,
    SpaceDrifted,
)
from providers.operator_settings import operator_settings
from providers.pools import not_admitted, unfit
from providers.registry import registry
from providers.state.process import owned
from providers.tracing import step

# Of the time left, what one member may take while there is another: a frozen one must leave enough.
SHARE_OF_TIME = 0.5
# After a check that failed, or that another process makes.
LOOK_AGAIN_SECONDS = 5.0
# How long a member that throttles is left alone, at least and at most.
LEAST_REST_SECONDS, LONGEST_REST_SECONDS = 1.0, 60.0
# Of which is remembered when they were checked.
MAX_MODELS = 1000

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class _State:
    """What this process knows of one member of one pool; of its models by their names.

    `turn`: when it was called last, as a number. `failed_at`: until a check that began later, it may be another model.
    `passed_at`: when such a check began. `look_at`: when to look again, if it is not admitted and if it is. `checked`
    is held by the check under way.
    """

    in_flight: int = 0
    turn: int = 0
    failed_at: datetime | None = None
    rests_until: float = 0.0
    passed_at: dict[str, datetime] = field(default_factory=dict)
    look_at: dict[str, tuple[float, float]] = field(default_factory=dict)
    checked: threading.Lock = field(default_factory=threading.Lock)

    def is_suspect(self, model: str) -> bool:
        if self.failed_at is None:
            return False
        passed_at = self.passed_at.get(model)
        return passed_at is None or passed_at <= self.failed_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of a pool, for one model. `problem`: why it does not serve it now, or None."""

    name: str
    provider: Provider | None
    in_flight: int
    problem: str | None


class Pools:
    """The pools that this process calls. Safe for threads."""

    timer = staticmethod(time.monotonic)

    def __init__(
        self, watch: SpaceWatch, *, start: Callable[[Callable[[], None]], None]
    ) -> None:
        self._watch = watch
        self._start = start
        self._states: dict[tuple[str, str], _State] = {}
        self._turn = 0
        self._lock = threading.Lock()  # around what is under way, and whose turn it is

    def embed(
        self,
        pool: Provider,
        model: ModelSpec,
        texts: list[str],
        *,
        dimensions: int | None,
        input_type: InputType,
        timeout_seconds: float,
    ) -> Embedded:
        """Embed as `Provider.embed`, by whichever member can. Raises the last one's ProviderError where none does."""
        give_up_at = self.timer() + timeout_seconds
        tried: set[str] = set()
        failure: ProviderError | None = None
        while taken := self._take(pool, model, dimensions, tried):
            member, is_last = taken
            left = give_up_at - self.timer()
            token = replaceable.set(not is_last)
            try:
                with step(f"member {member.name}"), breaker.guarded(member.name):
                    embedded = member.embed(
                        _named(pool, member, model),
                        texts,
                        dimensions=dimensions,
                        input_type=input_type,
                        timeout_seconds=left if is_last else left * SHARE_OF_TIME,
                    )
                metrics.pool_answers.labels(pool.name, member.name).inc()
                return replace(embedded, member=member.name)
            except ProviderError as error:
                if not error.falls_back:
                    raise
                failure = error
                self._failed(pool, member, error)
            finally:
                replaceable.reset(token)
                self._count(pool.name, member.name, -1)
            tried.add(member.name)
        self._look(pool, model)
        raise failure or SpaceDrifted(
            f"No member of {pool.name} gives the vectors of {model.name} now."
        )

    def members(self, pool: Provider, model: ModelSpec) -> Iterator[Member]:
        """Yield the pool's own provider, then the others: whether each serves `model`, as this process knows."""
        names = (pool.name, *operator_settings().pools.get(pool.name, ()))
        for name in names:
            member = registry().get(name)
            yield Member(
                name=name,
                provider=member,
                in_flight=self._state(pool.name, name).in_flight,
                problem=self._problem(pool, member, model)
                if member
                else "It is not known here yet.",
            )

    def serves(self, pool: Provider, model: ModelSpec) -> bool:
        """Whether a member answers now, as far as this process knows; False of a provider that is no pool."""
        if pool.name not in operator_settings().pools:
            return False
        return any(one.problem is None for one in self.members(pool, model))

    def _problem(
        self, pool: Provider, member: Provider, model: ModelSpec
    ) -> str | None:
        state = self._state(pool.name, member.name)
        if problem := not_admitted(pool, member, model, operator_settings()):
            return problem
        if not breaker.is_closed(member.name):
            return f"The circuit breaker of {member.name} is not closed."
        if state.is_suspect(model.name):
            return "It failed; it serves again once its vectors have been compared."
        if state.rests_until > self.timer():
            return "It throttles."
        return None

    def _take(
        self,
        pool: Provider,
        model: ModelSpec,
        dimensions: int | None,
        tried: set[str],
    ) -> tuple[Provider, bool] | None:
        """Return who is called next, counted as called, and whether nobody else is left; None where nobody is.

        Where no member may serve the pool's own provider is called as it would be without a pool.
        """
        free = [
            one.provider
            for one in self.members(pool, model)
            if one.provider
            and one.problem is None
            and one.name not in tried
            and _answers_in(one.provider, pool, model, dimensions)
        ]
        if not tried:
            self._look(pool, model)
        own_is_left = self._may_be_last(pool, model, tried)
        if not free:
            if not own_is_left:
                return None
            free = [pool]
        with self._lock:
            states = {one: self._states[pool.name, one.name] for one in free}
            chosen, state = min(
                states.items(), key=lambda one: (one[1].in_flight, one[1].turn)
            )
            self._turn += 1
            state.in_flight, state.turn = state.in_flight + 1, self._turn
        metrics.pool_in_flight.labels(pool.name, chosen.name).inc()
        others = len(free) > 1 or (own_is_left and pool not in free)
        return chosen, not others

    def _may_be_last(self, pool: Provider, model: ModelSpec, tried: set[str]) -> bool:
        """Whether the pool's own provider is called where nobody else is left, as it would be without a pool."""
        if pool.name in tried or (tried and not breaker.is_closed(pool.name)):
            return False
        drifted = not_admitted(pool, pool, model, operator_settings()) is not None
        return model.drifted or not drifted  # its answers say so, or are right

    def _failed(self, pool: Provider, member: Provider, error: ProviderError) -> None:
        state = self._state(pool.name, member.name)
        if isinstance(error, ProviderThrottled | Overloaded):
            asked = error.retry_after_seconds or LEAST_REST_SECONDS
            rest = min(max(asked, LEAST_REST_SECONDS), LONGEST_REST_SECONDS)
            state.rests_until = self.timer() + rest
        elif error.trips_breaker or isinstance(error, BreakerOpen):
            state.failed_at = canary().clock()
            state.look_at.clear()
        metrics.pool_failures.labels(pool.name, member.name, error.reason).inc()
        log.warning(
            "pool_member_failed",
            pool=pool.name,
            member=member.name,
            reason=error.reason,
        )

    def _count(self, pool: str, member: str, more: int) -> None:
        with self._lock:
            self._states[pool, member].in_flight += more
        metrics.pool_in_flight.labels(pool, member).inc(more)

    def _state(self, pool: str, member: str) -> _State:
        try:
            return self._states[pool, member]
        except KeyError:
            return self._states.setdefault((pool, member), _State())

    # -- checks, each in a thread of its own: a frozen member must not hold up another's ---------------------------

    def _look(self, pool: Provider, model: ModelSpec) -> None:
        """Have members checked of which that is due."""
        now = self.timer()
        for member in (pool, *registry().members(pool.name)):
            state = self._state(pool.name, member.name)
            soonest, due_at = state.look_at.get(model.name, (0.0, 0.0))
            refused = not_admitted(pool, member, model, operator_settings())
            # It may have been admitted before, and left meanwhile.
            if now < (min(soonest, due_at) if refused else due_at):
                continue
            if member is pool and self._is_proven(member, model, state):
                continue  # it is watched as any provider is
            if state.checked.acquire(blocking=False):
                self._start(partial(self._check, pool, member, model, state))

    def _check(
        self, pool: Provider, member: Provider, model: ModelSpec, state: _State
    ) -> None:
        pause = LOOK_AGAIN_SECONDS
        token = replaceable.set(True)  # tried again soon
        try:
            pause = self._checked(pool, member, model, state)
        except (ProviderError, DatabaseError, InterfaceError) as error:
            reason = getattr(error, "reason", type(error).__name__)
            log.warning("pool_check_failed", member=member.name, reason=reason)
        except Exception:  # a third party's code may raise anything
            log.exception("pool_check_crashed", member=member.name)
        finally:
            replaceable.reset(token)
            if len(state.look_at) >= MAX_MODELS:
                state.look_at.clear()
                state.passed_at.clear()
            now = self.timer()
            state.look_at[model.name] = (now + LOOK_AGAIN_SECONDS, now + pause)
            state.checked.release()

    def _checked(
        self, pool: Provider, member: Provider, model: ModelSpec, state: _State
    ) -> float:
        """Check as often as it takes to close the member's breaker; return for how long there is nothing to do.

        Raises ProviderError, DatabaseError.
        """
        if not _can_be_checked(pool, member):
            return LOOK_AGAIN_SECONDS
        other = None if member is pool else pool
        # The pause after a failed check is for those whose vectors are known.
        urgent = not_admitted(pool, member, model, operator_settings()) is not None
        for _ in range(breaker.SUCCESSES_TO_CLOSE):
            began = canary().clock()
            proven = self._is_proven(member, model, state)
            verdict = self._watch.checked(
                member,
                model,
                pool=other,
                since=None if proven else began,
                urgent=urgent or not proven,
            )
            if verdict is None and other:  # perhaps there is nothing to compare with
                self._watch.checked(pool, model, urgent=True)
            if verdict is None or not verdict.known:
                return LOOK_AGAIN_SECONDS
            if not verdict.drifted and not proven:
                state.passed_at[model.name] = began
            if breaker.is_closed(member.name):
                return verdict.fresh_seconds
        return LOOK_AGAIN_SECONDS

    @staticmethod
    def _is_proven(member: Provider, model: ModelSpec, state: _State) -> bool:
        return not state.is_suspect(model.name) and breaker.is_closed(member.name)


def _answers_in(
    member: Provider, pool: Provider, model: ModelSpec, dimensions: int | None
) -> bool:
    """Whether a member can be asked for vectors of that size; None is the model's own."""
    if dimensions is None or member is pool:
        return True
    spec = registry().resolve(member, _named(pool, member, model).name)
    return spec is not None and dimensions in spec.native_dimensions


def _named(pool: Provider, member: Provider, model: ModelSpec) -> ModelSpec:
    """Return the pool's model as a member calls it."""
    if member is pool:
        return model
    return operator_settings().as_named(member.name, model)


def _can_be_checked(pool: Provider, member: Provider) -> bool:
    """Whether the member is set up, and its breaker would let the check through."""
    if member is not pool and unfit(pool, member, operator_settings()):
        return False
    return breaker.open_until(member.name) is None


@owned
def pools() -> Pools:
    """Return the process-wide pools."""
    return Pools(space_watch(), start=start_thread)
