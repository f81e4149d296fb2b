"""What all remote providers share: one HTTP client, retries, splitting, checked
answers, public error messages.

A plug-in derives from `RemoteProvider` and adds its models, its limits and its wire
format; nothing else here is its business. May import `providers.base` and
`providers.exceptions`, never a plug-in.
"""

from providers.remote.answers import (
    Answer,
    BadAnswerError,
    Json,
    field,
    indexed_answer,
    whole_number,
)
from providers.remote.client import Reply
from providers.remote.deadline import Clocks
from providers.remote.failures import classify_status
from providers.remote.remote_provider import Batch, Call, RemoteProvider
from providers.remote.splitting import Limits

__all__ = [
    "Answer",
    "BadAnswerError",
    "Batch",
    "Call",
    "Clocks",
    "Json",
    "Limits",
    "RemoteProvider",
    "Reply",
    "classify_status",
    "field",
    "indexed_answer",
    "whole_number",
]
