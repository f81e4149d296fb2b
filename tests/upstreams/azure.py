"""Azure OpenAI: deployments of a resource, by its older address and by the newer one, with its own error bodies."""

import re
from urllib.parse import parse_qs, urlsplit

from providers.plugins.openai import OpenAIProvider
from tests.upstreams import faults
from tests.upstreams.case import ProviderCase
from tests.upstreams.faults import Fault
from tests.upstreams.openai import OpenAIUpstream

DEPLOYMENT = re.compile(r"/openai/deployments/([^/]+)/embeddings")


class AzureUpstream(OpenAIUpstream):
    """https://learn.microsoft.com/azure/ai-foundry/openai/reference, `2024-10-21`."""

    api_key = "0123456789abcdef0123456789abcdef"
    path_prefix = ""
    version = "2024-10-21"
    # By the names of deployments, which need not be those of models.
    models = {  # noqa: RUF012 -- a table
        "text-embedding-3-small": (1536, True),
        "text-embedding-3-large": (3072, True),
        "our-small.one": (1536, True),
    }

    def answer(self, path, headers, body):
        parts = urlsplit(path)
        name = self.deployment(parts, body)
        self.require(name in self.models, 404, "The API deployment does not exist.")
        versions = parse_qs(parts.query).get("api-version")
        self.require(versions == self.versions, 404, "Resource not found")
        self.require("authorization" not in headers, 401, "Access denied.")
        self.require(headers.get("api-key") == self.api_key, 401, "Access denied.")
        given = {"authorization": f"Bearer {self.api_key}"}
        return super().answer("/v1/embeddings", given, {**body, "model": name})

    versions = [version]  # noqa: RUF012

    def deployment(self, parts, body):
        found = DEPLOYMENT.fullmatch(parts.path)
        return found and found[1]

    def error(self, status, message):
        codes = {401: "401", 404: "DeploymentNotFound", 429: "429"}
        return {"error": {"code": codes.get(status, "BadRequest"), "message": message}}

    def fault_error(self, fault):
        payload, headers = super().fault_error(fault)
        if fault is Fault.THROTTLED_SECONDS:
            headers["retry-after-ms"] = str(self.retry_after_seconds * 1000)
            headers["Retry-After"] = str(self.retry_after_seconds + 1)
        assert faults.STATUS[fault]
        return payload, headers


class AzureV1Upstream(AzureUpstream):
    """`/openai/v1`: the deployment in the body, and no version."""

    path_prefix = "/openai/v1"
    versions = None  # type: ignore[assignment]

    def deployment(self, parts, body):
        return parts.path == "/openai/v1/embeddings" and body.get("model")


CASES = tuple(
    ProviderCase(
        id=id,
        provider=OpenAIProvider,
        upstream=upstream,
        model="text-embedding-3-small",
        dimensions=1536,
        smaller=("text-embedding-3-large", 256),
        max_items=2048,
        options={"wire": "azure"},
    )
    for id, upstream in (("azure", AzureUpstream), ("azure-v1", AzureV1Upstream))
)
