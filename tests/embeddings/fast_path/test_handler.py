import pytest
from django.test import RequestFactory
from django.urls import Resolver404, resolve

from embeddings.fast_path.handler import FastHandler

PATHS = [
    "/api/v1/embeddings",
    "/api/v1/embeddings/batch",
    "/api/v1/models/huggingface:a/b",
    "/api/v1/models/huggingface:c",
    "/healthz",
]


@pytest.fixture
def handler(fast_path):
    return FastHandler()


def where(handler, path):
    match = handler.resolve_request(RequestFactory().get(path))
    return match.func, match.args, match.kwargs


def test_paths_lead_where_the_url_configuration_says_each_time(handler):
    for path in [*PATHS, *reversed(PATHS)]:
        match = resolve(path)
        assert where(handler, path) == (match.func, match.args, match.kwargs)


def test_request_gets_its_match_each_time(handler):
    for _ in range(2):
        request = RequestFactory().get(PATHS[0])
        assert handler.resolve_request(request) is request.resolver_match


def test_unknown_path_is_unknown_each_time(handler):
    for _ in range(2):
        with pytest.raises(Resolver404):
            where(handler, "/api/v1/nothing")
