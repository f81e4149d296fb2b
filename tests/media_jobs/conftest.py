"""Fixtures of the media tests."""

from dataclasses import replace

import pytest

from tests.embeddings.multi_user import (  # noqa: F401
    access,
    ada,
    admin,
    client_of,
    key_of,
    make_user,
)

MEDIA = "/api/v1/media"


@pytest.fixture
def media_conf(settings):
    """Return a function that changes fields of the app's settings for this test."""

    def change(**changes):
        settings.MEDIA_JOBS = replace(settings.MEDIA_JOBS, **changes)

    return change


@pytest.fixture
def create(client, fakes):
    """Return a function that stores a document and returns the answer's body."""

    def send(content="The cat sat on the mat.", title="On cats", by=client, **fields):
        response = by.post(
            MEDIA, {"title": title, "content": content, **fields}, format="json"
        )
        assert response.status_code == 201, response.content
        return response.json()

    return send
