"""Making a model ready: warm-up and download, waited for or in the background, each written down while it runs."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from django.db import connections

from embeddings.conf import conf
from embeddings.services.action_records import (
    Kind,
    Watch,
    new_action,
    recorded,
    running_action,
)
from embeddings.services.callers import SYSTEM, Caller
from embeddings.services.errors import (
    Conflict,
    InvalidRequest,
    ModelActionFailed,
    ModelNotFound,
    ModelNotReady,
    NotAllowed,
    ServiceError,
)
from embeddings.services.routing import (
    is_model_allowed,
    named_provider,
    primary_target,
    split_model,
)
from embeddings.services.types import Target
from providers.base import Download, ModelCard, Provider
from providers.exceptions import (
    ActionCancelled,
    ProviderError,
    ProviderMisconfigured,
    UnknownModel,
)
from providers.models import ModelAction
from providers.registry import registry

CANCELLED = "It was cancelled. Files that came whole are kept: the next download goes on from there."

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """An action in the background. `by`: who began it, where it was under way already, else empty."""

    kind: Kind
    provider: str
    model: str
    by: str = ""


def warm_up(
    *,
    model: str,
    provider: str | None = None,
    caller: Caller = SYSTEM,
    row: ModelAction | None = None,
    watch: Watch | None = None,
) -> tuple[Target, float]:
    """Load a model (local) or open its connection (remote); return the target and the seconds it took.

    Raises what `primary_target` raises, Conflict (cancelled), ModelNotReady or ModelActionFailed.
    """
    target = primary_target(model=model, provider=provider, caller=caller)
    names = (target.provider.name, target.model.name)
    timeout = (
        conf().engine_timeout_seconds
        if target.provider.local
        else conf().request_timeout_seconds
    )
    started = time.monotonic()
    try:
        with recorded(
            "warm_up", *names, by=caller.username, row=row, watch=watch
        ) as progress:
            progress.begin("loading")
            target.provider.warm_up(target.model, timeout_seconds=timeout)
    except ProviderError as error:
        raise _not_done(error) from error
    return target, time.monotonic() - started


def download(
    *,
    model: str,
    provider: str | None = None,
    caller: Caller = SYSTEM,
    row: ModelAction | None = None,
    watch: Watch | None = None,
) -> tuple[Provider, Download]:
    """Fetch and prepare a local model's files. A name without a provider is fetched for `huggingface`.

    Who asks while it is under way waits for it. Raises InvalidRequest, NotAllowed, ModelNotFound, Conflict (cancelled),
    ModelNotReady or ModelActionFailed.
    """
    chosen, name = _downloadable(model, provider, caller)
    try:
        with recorded(
            "download", chosen.name, name, by=caller.username, row=row, watch=watch
        ):
            fetched = chosen.download(name)
    except ProviderError as error:
        raise _not_done(error) from error
    registry().list_again()
    return chosen, fetched


def card_to_fetch(*, model: str) -> ModelCard | None:
    """Return the card of a model that `download` would fetch; None if it is here, or nothing is known of it.

    Raises InvalidRequest or NotAllowed.
    """
    chosen, name = _downloadable(model, None, SYSTEM)
    known = registry().resolve(chosen, name)
    return known.card if known and not chosen.downloaded(known) else None


def start(kind: Kind, *, model: str, provider: str | None = None, by: str) -> Started:
    """Begin an action in the background, unless it is under way already; its row says how it goes and ends.

    Raises what the action raises before it begins.
    """
    if kind == "download":
        chosen, name = _downloadable(model, provider, SYSTEM)
    else:
        target = primary_target(model=model, provider=provider)
        chosen, name = target.provider, target.model.name
    if under_way := running_action(kind, chosen.name, name):
        by = under_way.by or "somebody"
        return Started(kind=kind, provider=chosen.name, model=name, by=by)
    row = new_action(kind, chosen.name, name, by=by)
    act = download if kind == "download" else warm_up
    in_background(lambda: act(model=name, provider=chosen.name, row=row))
    return Started(kind=kind, provider=chosen.name, model=name)


def in_background(work: Callable[[], object]) -> None:
    """Do `work` in a thread that ends with the process; what it raises is in its row already."""

    def run() -> None:
        try:
            work()
        except ServiceError as error:
            log.warning("model_action_failed", reason=error.message)
        except Exception:  # a third party's code may raise anything
            log.exception("model_action_crashed")
        finally:
            connections.close_all()

    threading.Thread(target=run, name="model-action", daemon=True).start()


def _downloadable(
    model: str, provider: str | None, caller: Caller
) -> tuple[Provider, str]:
    """Return the local provider and the full name to download. Raises InvalidRequest or NotAllowed."""
    prefix, name = split_model(model)
    chosen = named_provider(provider or prefix or "huggingface")
    if not chosen.local:
        raise InvalidRequest(
            f"Provider {chosen.name} serves its models remotely; there is nothing to download.",
            param="provider",
        )
    if known := registry().resolve(chosen, name):
        name = known.name  # what is allowed is said of full names
    if not is_model_allowed(chosen.name, name, caller):
        raise NotAllowed(f"Model '{name}' is not allowed", param="model")
    return chosen, name


def _not_done(error: ProviderError) -> ServiceError:
    """Return why a model was not made ready: cancelled, no such model, an operator must act first, or a failure."""
    if isinstance(error, ActionCancelled):
        return Conflict(CANCELLED, code="cancelled")
    if isinstance(error, UnknownModel):
        return ModelNotFound(error.message)
    if isinstance(error, ProviderMisconfigured):
        return ModelNotReady(error.message)
    return ModelActionFailed(error.message, param="model")
