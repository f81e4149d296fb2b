"""What authentication, limiter and usage cost on a cache-hot request: `python benchmarks/access_overhead.py`.

The whole request is measured in one process, from WSGI to the rendered answer, with the real local model's tokenizer
and a warm cache. Stages are switched on and off in one run, request by request, and each request is compared with its
neighbours: what else the machine does cancels out of the ratios.
"""

import argparse
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))
SCRATCH = tempfile.TemporaryDirectory()
parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
parser.add_argument("--texts", type=int, default=1, help="texts in a request")
parser.add_argument("--rounds", type=int, default=1500)
parser.add_argument(
    "--credential", choices=["single", "key", "token"], default="single"
)
OPTIONS = parser.parse_args()
if OPTIONS.credential != "single":
    os.environ.update(AUTH_MODE="multi_user", JWT_SECRET_KEY=secrets.token_hex(32))
os.environ.update(
    DJANGO_SETTINGS_MODULE="embeddings_project.settings",
    DATABASE_URL=f"sqlite:///{SCRATCH.name}/db.sqlite3",
    RATE_LIMIT_PER_MINUTE="10000000",
    RATE_LIMIT_BURST="10000000",
    LOG_LEVEL="warning",
)

import django  # noqa: E402  (after the environment)

django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.test import Client  # noqa: E402
from rest_framework.authentication import BaseAuthentication  # noqa: E402

from embeddings.access.api_keys import NewKey, create_key  # noqa: E402
from embeddings.access.limiter.limiter import Limiter  # noqa: E402
from embeddings.access.limiter.sqlite_buckets import SqliteBuckets  # noqa: E402
from embeddings.access.tokens import make_access_token  # noqa: E402
from embeddings.api.views.embeddings import CreateEmbeddings  # noqa: E402
from embeddings.services.callers import SINGLE_USER  # noqa: E402
from embeddings.services.preparation import prepare_local_model  # noqa: E402
from embeddings.services.usage.ledger import Ledger  # noqa: E402

MODEL = "huggingface:sentence-transformers/all-MiniLM-L6-v2"
LIMIT = 0.25


class Anyone:
    is_authenticated = is_active = is_staff = True
    pk = None


class NoAuthentication(BaseAuthentication):
    """Let everyone in at no cost."""

    def authenticate(self, request: Any) -> Any:
        return Anyone(), SINGLE_USER


class NoUsage:
    """Count nothing."""

    flushes = 0

    def answered(self, *_: Any) -> None: ...

    def failed(self, *_: Any) -> None: ...


@contextmanager
def stages(*, authentication: bool, limiter: bool, usage: bool) -> Iterator[None]:
    """Switch the stages on or off."""
    classes = AUTHENTICATION if authentication else (NoAuthentication,)
    conf = replace(CONF, limiter=replace(CONF.limiter, embeddings=limiter))
    ledger: Any = LEDGER if usage else NoUsage()
    with (
        patch.object(CreateEmbeddings, "authentication_classes", classes),
        patch.object(settings, "EMBEDDINGS", conf),
        patch("embeddings.services.embed.usage", lambda: ledger),
        patch("embeddings.access.throttling.limiter", lambda: LIMITER),
    ):
        yield


VARIANTS: dict[str, dict[str, bool]] = {
    "none of them": {"authentication": False, "limiter": False, "usage": False},
    "authentication": {"authentication": True, "limiter": False, "usage": False},
    "limiter": {"authentication": False, "limiter": True, "usage": False},
    "usage": {"authentication": False, "limiter": False, "usage": True},
    "all three": {"authentication": True, "limiter": True, "usage": True},
}
AUTHENTICATION = CreateEmbeddings.authentication_classes
CONF = settings.EMBEDDINGS
LIMITER = Limiter(SqliteBuckets(Path(SCRATCH.name) / "limiter.sqlite3"))
LEDGER = Ledger(flush_seconds=CONF.usage_flush_seconds)


def credential() -> dict[str, str]:
    """Return the header that lets the benchmark in."""
    if OPTIONS.credential == "single":
        return {"X-API-KEY": CONF.single_user_api_key}
    user = User.objects.create_user("bench")
    if OPTIONS.credential == "token":
        return {"Authorization": f"Bearer {make_access_token(user)}"}
    return {"X-API-KEY": create_key(user, NewKey())[1]}


def seconds(send: Callable[[], Any]) -> float:
    """Return how long one request took."""
    started = time.perf_counter()
    send()
    return time.perf_counter() - started


def main() -> None:
    call_command("migrate", verbosity=0)
    prepare_local_model()
    client = Client(SERVER_NAME="localhost", headers=credential())
    texts = [f"a short text, number {number}" for number in range(OPTIONS.texts)]

    def send() -> None:
        answer = client.post(
            "/api/v1/embeddings",
            {"input": texts, "model": MODEL},
            content_type="application/json",
        )
        assert answer.status_code == 200, answer.content  # noqa: S101

    measured: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(OPTIONS.rounds):
        for name, switches in VARIANTS.items():
            with stages(**switches):
                measured[name].append(seconds(send))
    report(measured)


def report(measured: dict[str, list[float]]) -> None:
    """Print each variant's time, and the share of it that the stages add, as medians over the rounds."""
    base = measured["none of them"]
    write = sys.stdout.write
    for name, figures in measured.items():
        shares = [(own - bare) / own for own, bare in zip(figures, base, strict=True)]
        share = statistics.median(shares)
        write(f"{name:15} {statistics.median(figures) * 1e6:8.0f} us  {share:6.1%}\n")
    verdict = "within" if share < LIMIT else "over"
    write(
        f"all three take {share:.1%} of a cache-hot request: {verdict} the {LIMIT:.0%} allowed\n"
    )


if __name__ == "__main__":
    main()
    LEDGER.close()
    SCRATCH.cleanup()
