"""What an operator should look at in the set-up, each with what to do."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from embeddings.conf import conf
from embeddings.services.breaker_states import breaker_states
from embeddings.services.nodes import NAME_TAKEN, differences, names_taken
from embeddings.services.processes import process_states, runs
from embeddings.services.space_watch import spaces_in_use
from providers.registry import registry

LEAST_FREE_SHARE = 0.05
LEAST_FREE_BYTES = 2**30
GIBIBYTE = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """`problem` and `remedy`: a sentence each. `is_urgent`: something does not work now."""

    problem: str
    remedy: str
    is_urgent: bool = False


def hints() -> Iterator[Hint]:
    """Yield the hints, what is urgent first."""
    yield from sorted(_found(), key=lambda hint: not hint.is_urgent)


def _found() -> Iterator[Hint]:
    yield from _of_providers()
    yield from _of_access()
    yield from _of_machine()
    yield from _of_nodes()


def _of_providers() -> Iterator[Hint]:
    remote = [provider for provider in registry().all() if not provider.local]
    if all(provider.configuration_problem() for provider in remote):
        yield Hint(
            problem="No remote provider has a key: embedded models answer everything.",
            remedy="To use one, set its key, such as OPENAI_API_KEY, in the environment or .env, and restart.",
        )
    for breaker in breaker_states():
        if breaker.state == "open":
            yield Hint(
                problem=f"The circuit breaker of {breaker.provider} is open: {breaker.last_error or 'it kept failing'}",
                remedy="It is tried again by itself; once the cause is gone, close it below.",
                is_urgent=True,
            )
    for provider, space in spaces_in_use():
        if space.state == "drifted":
            yield Hint(
                problem=f"{provider.name}:{space.model} gives other vectors than those of its space.",
                remedy="Look at it under Remote spaces, and accept the new revision or go back to the old model.",
                is_urgent=True,
            )


def _of_access() -> Iterator[Hint]:
    if conf().access.multi_user:
        if not (conf().limiter.enabled and conf().limiter.embeddings):
            yield Hint(
                problem="The embeddings endpoints have no default limits.",
                remedy="Set EMBEDDINGS_RATE_LIMIT=on, and RATE_LIMIT_PER_MINUTE to what one caller may ask.",
            )
    elif conf().single_user_accept_bearer:
        yield Hint(
            problem="The server's one key is taken as a Bearer token, too.",
            remedy="Clients that can send X-API-KEY do not need SINGLE_USER_ACCEPT_BEARER.",
        )
    if settings.DEBUG:
        yield Hint(
            problem="DEBUG is on: error pages show the server's insides.",
            remedy="Set DEBUG=false, and restart the server.",
            is_urgent=True,
        )


def _of_machine() -> Iterator[Hint]:
    if not runs("worker"):
        yield Hint(
            problem="No worker runs: documents wait and are not embedded.",
            remedy="Set MEDIA_WORKERS to 1 or more, or start `manage.py runworker` beside the server.",
        )
    disk = shutil.disk_usage(Path(settings.DATA_DIR))
    if disk.free < max(LEAST_FREE_BYTES, LEAST_FREE_SHARE * disk.total):
        yield Hint(
            problem=f"The disk of DATA_DIR is nearly full: {disk.free / GIBIBYTE:.1f} GiB are free.",
            remedy="Make space, or move DATA_DIR to a larger disk.",
            is_urgent=True,
        )
    for process in process_states():
        if process.is_silent:
            yield Hint(
                problem=f"A process says nothing any more: {process.role} {process.pid} on {process.host}.",
                remedy="If it was stopped on purpose this goes away within an hour; else look at its log.",
            )


def _of_nodes() -> Iterator[Hint]:
    for difference in differences():
        there = "; ".join(", ".join(names) for names in difference.alike)
        lacking = ", ".join(difference.lacking)
        yield Hint(
            problem=f"Nodes lack {difference.what}: {lacking}. It is on {there}."
            if lacking
            else f"{difference.what} differs between nodes: {there}.",
            remedy="Make it the same on all nodes, and restart those that change: docs/deployment.md, Several nodes.",
        )
    for node in names_taken():
        yield Hint(
            problem=f"Two servers have the name of one node: {node}.",
            remedy=NAME_TAKEN,
            is_urgent=True,
        )
