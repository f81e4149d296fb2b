"""The OpenAPI document."""

import threading
from typing import Any, ClassVar

from django.conf import settings
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.views import SpectacularJSONAPIView


class OnceGenerator(SchemaGenerator):
    """Make the document once a process: the generator is slow, and two threads in it at once fail."""

    _lock = threading.Lock()
    _made: ClassVar[dict[str, Any]] = {}

    def get_schema(self, request: Any = None, public: bool = False) -> Any:  # noqa: FBT001, FBT002 - as in the base
        with self._lock:
            if settings.AUTH_MODE not in self._made:
                document = super().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
                self._made[settings.AUTH_MODE] = document
            return self._made[settings.AUTH_MODE]


class ShowDocument(SpectacularJSONAPIView):
    """The API as OpenAPI 3."""

    generator_class = OnceGenerator
