"""Stub upstreams: local servers that speak each provider's wire format and can fail.

with OpenAIUpstream() as upstream:
    upstream.fault = Fault.SERVER_ERROR
"""

from tests.upstreams.cohere import CohereUpstream
from tests.upstreams.faults import Fault
from tests.upstreams.google import GoogleUpstream
from tests.upstreams.local_api import (
    CompatibleUpstream,
    OllamaUpstream,
    TeiUpstream,
)
from tests.upstreams.mistral import MistralUpstream
from tests.upstreams.openai import OpenAIUpstream
from tests.upstreams.server import RecordedCall, StubUpstream
from tests.upstreams.vectors import tokens_in, vector_for, vectors_for
from tests.upstreams.voyage import VoyageUpstream

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
