"""Stub upstreams: local servers that speak each provider's wire format and can fail.

with OpenAIUpstream() as upstream:
    upstream.fault = Fault.SERVER_ERROR
"""

from tests.upstreams.faults import Fault
from tests.upstreams.local_servers import (
    CompatibleUpstream,
    OllamaUpstream,
    TeiUpstream,
)
from tests.upstreams.server import RecordedCall, StubUpstream
from tests.upstreams.services import (
    CohereUpstream,
    GoogleUpstream,
    MistralUpstream,
    OpenAIUpstream,
    VoyageUpstream,
)
from tests.upstreams.vectors import tokens_in, vector_for, vectors_for

__all__ = [
    "CohereUpstream",
    "CompatibleUpstream",
    "Fault",
    "GoogleUpstream",
    "MistralUpstream",
    "OllamaUpstream",
    "OpenAIUpstream",
    "RecordedCall",
    "StubUpstream",
    "TeiUpstream",
    "VoyageUpstream",
    "tokens_in",
    "vector_for",
    "vectors_for",
]
