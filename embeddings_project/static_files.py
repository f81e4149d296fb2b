"""The pages' files, from the packages that bring them: compressed once a process, and kept by browsers."""

import gzip
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import StaticFilesStorage
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware

VERSION = "v"
FOR_GOOD = "max-age=31536000, public, immutable"
FOR_A_DAY = "max-age=86400, public"  # styles name fonts without their version
COMPRESSED = (".css", ".js", ".svg")


class VersionedStorage(StaticFilesStorage):
    """Addresses of files say what is in them, so that a new release is another address."""

    def url(self, name: str | None) -> str:
        address = super().url(name)
        version = _version(name or "")
        return f"{address}?{VERSION}={version}" if version else address


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc]
    """Serve files gzipped where a browser takes that, and for good where the address names the version."""

    @staticmethod
    def serve(static_file: Any, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = WhiteNoiseMiddleware.serve(static_file, request)
        path = request.path_info
        if VERSION in request.GET:
            response["Cache-Control"] = FOR_GOOD
        elif path.endswith(".woff2"):
            response["Cache-Control"] = FOR_A_DAY
        file = getattr(response, "file_to_stream", None)
        takes_gzip = "gzip" in request.headers.get("Accept-Encoding", "")
        is_whole = response.status_code == 200 and request.method == "GET"
        if file and is_whole and takes_gzip and path.endswith(COMPRESSED):
            return _compressed(response, file.name)
        return response


def _compressed(response: HttpResponseBase, path: str) -> HttpResponse:
    headers = dict(response.items())
    response.close()
    body = _gzipped(path, Path(path).stat().st_mtime_ns)
    headers |= {
        "Content-Encoding": "gzip",
        "Content-Length": str(len(body)),
        "Vary": "Accept-Encoding",
    }
    return HttpResponse(body, headers=headers)


@cache
def _version(name: str) -> str:
    path = finders.find(name)
    if not isinstance(path, str) or not Path(path).is_file():
        return ""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]


@cache
def _gzipped(path: str, changed_at: int) -> bytes:
    return gzip.compress(Path(path).read_bytes(), 9)
