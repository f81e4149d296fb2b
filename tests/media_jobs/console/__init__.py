"""The console, as staff of several kinds meet it."""

import pytest
from django.test import Client
from django.urls import reverse

from media_jobs.tasks import work
from tests.embeddings.staff import Staff
from tests.fakes import MINILM


@pytest.fixture
def people(make_user, fakes):
    return Staff(make_user)


@pytest.fixture
def console(people):
    """Return a function that gives a browser in which somebody is logged in."""

    def enter(name):
        client = Client()
        client.force_login(people[name])
        return client

    return enter


@pytest.fixture
def stored(ada, client_of, key_of):
    """What ada has: two documents, one of them embedded, a job of each, a key."""
    own = client_of(ada)
    for title in ("On cats", "On dogs"):
        body = {"title": title, "content": "The cat sat on the mat. " * 40}
        item = own.post("/api/v1/media", body, format="json").json()["media_id"]
        how = {"embedding_model": f"onnx:{MINILM}", "chunk_size": 100}
        own.post(f"/api/v1/media/{item}/embeddings", how, format="json")
        if title == "On cats":
            work()
    key_of(ada)
    return ada


def page(model, name="changelist", *args):
    meta = model._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_{name}", args=args)


def act(browser, model, action, *rows, **fields):
    form = {"action": action, "_selected_action": [row.pk for row in rows], **fields}
    return browser.post(page(model), form, follow=True)
