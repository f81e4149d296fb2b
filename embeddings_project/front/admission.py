"""Which bodies are read at all, by what the head says."""

import re
from typing import Any

from embeddings_project.front.bodies import FREE_BYTES
from embeddings_project.front.heads import Head
from embeddings_project.front.refusals import Refused

KEY = re.compile(r"[\x21-\x7e]{16,8190}", re.ASCII)
AUTHORIZATION = re.compile(r"[A-Za-z]{1,20} +[\x21-\x7e]{16,8190}", re.ASCII)


def most_bytes(content_type: str) -> int:
    """Return how large a body may be: a form may bring a file."""
    from django.conf import settings

    body: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    is_form = content_type.partition(";")[0].strip().lower() == "multipart/form-data"
    return max(body, settings.MEDIA_JOBS.max_bytes + 2**20) if is_form else body


def admitted(head: Head) -> tuple[int, Refused]:
    """Return how many bytes of the body are read, and what is said beyond. Raises Refused for what is known already.

    A large body is read only of a client that sends what could be a key, a token or a session.
    """
    if _could_be_known(head.environ):
        most = most_bytes(head.environ.get("CONTENT_TYPE", ""))
        over = Refused(413, f"The request body is over the limit of {most} bytes.")
    else:
        most, over = FREE_BYTES, _no_credential()
    if head.length is not None and head.length > most:
        raise over
    return most, over


def _could_be_known(environ: dict[str, Any]) -> bool:
    from django.conf import settings

    return bool(
        KEY.fullmatch(environ.get("HTTP_X_API_KEY", ""))
        or AUTHORIZATION.fullmatch(environ.get("HTTP_AUTHORIZATION", ""))
        or f"{settings.SESSION_COOKIE_NAME}=" in environ.get("HTTP_COOKIE", "")
    )


def _no_credential() -> Refused:
    from embeddings.access.authentication import BEARER_CHALLENGE, CHALLENGE
    from embeddings.conf import conf

    multi = conf().access.mode == "multi_user"
    return Refused(
        401,
        f"A body over {FREE_BYTES} bytes is read only with a valid API key"
        f"{' or token' if multi else ''}; send it in X-API-KEY{' or Authorization' if multi else ''}.",
        headers={"WWW-Authenticate": BEARER_CHALLENGE if multi else CHALLENGE},
    )
