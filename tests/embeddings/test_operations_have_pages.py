"""What the API can do, the console can: each operation is on a page, or is listed with the reason why not."""

import json

from django.contrib import admin
from django.test import Client

from embeddings.console.page import _pages

# By the name of the page, or the label of the model whose list it is.
PAGES = {
    "create_embeddings": "playground",
    "create_embedding_batch": "playground",
    "clear_cache": "overview",
    "list_circuit_breakers": "overview",
    "reset_circuit_breaker": "overview",
    "health": "overview",
    "embeddings_metrics": "overview",
    "providers_config": "providers",
    "list_models": "models",
    "list_embedding_models": "models",
    "retrieve_model": "models",
    "show_embedding_model": "models",
    "download_model": "models",
    "warm_up_model": "models",
    "create_media": "upload",
    "list_media": "media_jobs.MediaItem",
    "show_media": "document",
    "change_media": "media_jobs.MediaItem",
    "delete_media": "media_jobs.MediaItem",
    "delete_media_embeddings": "document",
    "media_embeddings_status": "document",
    "start_media_embeddings": "document",
    "start_media_embeddings_batch": "media_jobs.MediaItem",
    "search_media": "search",
    "list_media_jobs": "jobqueue",
    "show_media_job": "jobpage",
    "cancel_media_job": "jobqueue",
    "media_quota": "auth.User",
    "usage": "usage",
    "create_api_key": "embeddings.ApiKey",
    "list_api_keys": "embeddings.ApiKey",
    "revoke_api_key": "embeddings.ApiKey",
}
NO_PAGE = {
    "create_token": "The console's own login is one.",
    "refresh_token": "A session of the console renews itself.",
    "liveness": "For load balancers; who sees the console knows that the process answers.",
    "readiness": "For load balancers; the overview says what is not ready.",
}


def test_each_operation_is_on_a_page_or_says_why_not(access):
    document = json.loads(Client().get("/openapi.json").content)
    operations = {
        operation["operationId"]
        for methods in document["paths"].values()
        for operation in methods.values()
    }
    assert {*PAGES, *NO_PAGE} == operations
    assert not {*PAGES} & {*NO_PAGE}


def test_those_pages_are_there():
    pages = {page.name() for page in _pages}
    lists = {model._meta.label for model in admin.site._registry}
    assert {*PAGES.values()} <= pages | lists
