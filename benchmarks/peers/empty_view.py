"""The floor under any API on this stack: one REST framework view that takes a POST and answers the same small JSON.

No middleware, no authentication, no database; the body is not looked at. Under gunicorn's own threads it
says what Django, REST framework and gunicorn take of a request before anybody does any work, from the root of the
repository: `gunicorn --worker-class gthread --threads 64 --keep-alive 75 benchmarks.peers.empty_view:application`.
"""

from typing import Any

import orjson
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["rest_framework"],
    MIDDLEWARE=[],
    ROOT_URLCONF=__name__,
    SECRET_KEY="a benchmark keeps no secrets",  # noqa: S106
    USE_I18N=False,
    REST_FRAMEWORK={"UNAUTHENTICATED_USER": None},
)
application = get_wsgi_application()

from rest_framework.renderers import BaseRenderer  # noqa: E402  (after the settings)
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

ANSWER = {"object": "list", "data": [], "model": "none"}


class OrjsonRenderer(BaseRenderer):
    """JSON by orjson, as the product's."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, *_: Any) -> bytes:
        return orjson.dumps(data)


class EmptyView(APIView):
    """Answer every POST alike."""

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()
    renderer_classes = (OrjsonRenderer,)

    def post(self, request: Request) -> Response:
        return Response(ANSWER)


urlpatterns = [path("api/v1/embeddings", EmptyView.as_view())]
