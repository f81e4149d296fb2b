"""Which providers exist: the built-ins by dotted path, then packages with an entry point in `embeddings.providers`."""

import functools
import threading
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import structlog
from django.conf import settings

from providers.base import Provider

ENTRY_POINT_GROUP = "embeddings.providers"
BUILT_IN = {
    "openai": "providers.plugins.openai:OpenAIProvider",
    "cohere": "providers.plugins.cohere:CohereProvider",
    "voyage": "providers.plugins.voyage:VoyageProvider",
    "google": "providers.plugins.google:GoogleProvider",
    "mistral": "providers.plugins.mistral:MistralProvider",
    "local_api": "providers.plugins.local_api:LocalApiProvider",
    "huggingface": "providers.plugins.huggingface:HuggingFaceProvider",
    "onnx": "providers.plugins.onnx:OnnxProvider",
}

log = structlog.get_logger(__name__)


class Registry:
    """Providers by name, each built when it is first asked for. A broken third-party plug-in is logged and left out."""

    def __init__(self, options: Mapping[str, Mapping[str, Any]]) -> None:
        self._options = options
        self._lock = threading.RLock()
        self._built: dict[str, Provider] = {}
        self._plugins = {
            point.name.lower(): point for point in entry_points(group=ENTRY_POINT_GROUP)
        }
        for name in self._plugins.keys() & BUILT_IN.keys():
            log.error(
                "provider_plugin_skipped",
                provider=name,
                reason="the name belongs to a built-in provider",
            )
            del self._plugins[name]

    def names(self) -> tuple[str, ...]:
        """Return the names of all registered providers, built-ins first."""
        return (*BUILT_IN, *sorted(self._plugins))

    def get(self, name: str) -> Provider | None:
        """Return the provider of that name (lower case), or None."""
        if name in self._built:
            return self._built[name]
        with self._lock:
            if name not in self._built:
                provider = self._build(name)
                if provider is None:
                    return None
                self._built[name] = provider
            return self._built[name]

    def all(self) -> tuple[Provider, ...]:
        """Return every provider that can be built."""
        return tuple(provider for name in self.names() if (provider := self.get(name)))

    def _build(self, name: str) -> Provider | None:
        options = self._options.get(name, {})
        if name in BUILT_IN:
            module, _, attribute = BUILT_IN[name].partition(":")
            built_in: type[Provider] = getattr(import_module(module), attribute)
            return built_in.from_settings(options)
        if point := self._plugins.get(name):
            return self._build_plugin(point, options)
        return None

    def _build_plugin(
        self, point: EntryPoint, options: Mapping[str, Any]
    ) -> Provider | None:
        try:
            loaded = point.load()
            if not (isinstance(loaded, type) and issubclass(loaded, Provider)):
                raise TypeError(
                    f"{point.value} is not a subclass of providers.base.Provider"
                )
            return loaded.from_settings(options)
        except (
            Exception
        ):  # a third party's code may raise anything; the server must start without it
            log.exception(
                "provider_plugin_skipped", provider=point.name, entry_point=point.value
            )
            self._plugins.pop(point.name.lower(), None)
            return None


@functools.cache
def registry() -> Registry:
    """Return the process-wide registry."""
    return Registry(settings.PROVIDERS)
