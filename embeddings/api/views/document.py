"""The OpenAPI document."""

import threading
from typing import Any, ClassVar

from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.views import SpectacularJSONAPIView

from embeddings.conf import conf


class OnceGenerator(SchemaGenerator):
    """Make the document once a process: the generator is slow, and two threads in it at once fail."""

    _lock = threading.Lock()
    _made: ClassVar[dict[tuple[str, bool, bool], Any]] = {}

    def get_schema(self, request: Any = None, public: bool = False) -> Any:  # noqa: FBT001, FBT002 - as in the base
        with self._lock:
            mode = (
                conf().access.mode,
                conf().access.makes_tokens,
                conf().single_user_accept_bearer,
            )
            if mode not in self._made:
                document = super().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
                self._made[mode] = document
            return self._made[mode]


class ShowDocument(SpectacularJSONAPIView):
    """The API as OpenAPI 3."""

    generator_class = OnceGenerator
