"""The providers' options: where remote ones are, and their keys, which come from nowhere but the environment."""

from pathlib import Path
from typing import Any

from embeddings_project.env import Env
from providers.addresses import origin_of

LOCAL = ("huggingface", "onnx")
KEY_PREFIX, KEY_SUFFIX = "UPSTREAM_", "_API_KEY"


def read_providers(
    env: Env, *, data_dir: Path, engine: dict[str, Any], timeout_seconds: float
) -> dict[str, dict[str, Any]]:
    """Return each provider's options. A plug-in that is not built in has its key, if it is set."""

    def remote(prefix: str, *, url: str = "_BASE_URL", **more: Any) -> dict[str, Any]:
        return {
            "api_key": env.secret(f"{prefix}_API_KEY"),
            "base_url": env.url(f"{prefix}{url}"),
            "timeout_seconds": timeout_seconds,
            **more,
        }

    kind = env.choice("LOCAL_API_KIND", "openai", ["openai", "tei", "ollama"])
    providers: dict[str, dict[str, Any]] = {
        "openai": remote("OPENAI", data_dir=data_dir),
        "cohere": remote("COHERE"),
        "voyage": remote("VOYAGE"),
        "google": remote("GOOGLE"),
        "mistral": remote("MISTRAL"),
        "local_api": remote("LOCAL", url="_API_URL", kind=kind),
    }
    google, gemini = providers["google"], env.secret("GEMINI_API_KEY")
    google["api_key"] = google["api_key"] or gemini
    for part in env.between(KEY_PREFIX, KEY_SUFFIX):
        variable, name = f"{KEY_PREFIX}{part}{KEY_SUFFIX}", part.lower()
        key = env.secret(variable)
        options = providers.setdefault(name, {"timeout_seconds": timeout_seconds})
        if options.get("api_key") not in (None, key):
            env.problem(variable, f"differs from {name}'s other variable; keep one")
        if name in LOCAL:
            env.problem(variable, f"is of no use: {name} needs no key")
        options["api_key"] = key
    return providers | dict.fromkeys(LOCAL, engine)


def read_allowed_hosts(env: Env) -> frozenset[str]:
    """Return the origins that operators who are no superusers may set; a bare host or host:port means https."""
    origins = set()
    for word in env.words("UPSTREAM_ALLOWED_HOSTS"):
        address = word if "://" in word else f"https://{word}"
        origin = origin_of(address)
        if origin is None or address.count("/") > 2:
            env.problem(
                "UPSTREAM_ALLOWED_HOSTS",
                f"must be hosts such as gateway.example, 10.0.0.5:8443 or http://localhost:11434, not {word!r}",
            )
        else:
            origins.add(origin)
    return frozenset(origins)
