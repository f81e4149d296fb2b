"""Vectors are stale when their text, or the model that made them, is another now."""

import pytest

from media_jobs.models import MediaItem
from media_jobs.tasks import work
from providers.models import ProviderSetting
from providers.operator_settings import reader
from providers.registry import registry
from providers.seeding import seed_registry
from tests.media_jobs.conftest import MEDIA

CONSOLE = "/admin/media_jobs/mediaitem/"


@pytest.fixture(autouse=True)
def quick_passwords(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def item(create, start, model):
    """A document with the vectors of the model, which the test changes."""
    media_id = create()["media_id"]
    start(media_id)
    work()
    return MediaItem.objects.get(pk=media_id)


@pytest.fixture
def shown(client, admin_client, item):
    """Return a function that tells what the pages say of the document's staleness."""

    def look():
        listed = client.get(MEDIA).json()["data"][0]
        detail = client.get(f"{MEDIA}/{item.pk}").json()
        status = client.get(f"{MEDIA}/{item.pk}/embeddings/status").json()
        page = admin_client.get(CONSOLE).content.decode()
        cell = page.partition('data-label="vectors"')[2].partition("</td>")[0]
        return {
            *(one["embeddings_stale"] for one in (listed, detail, status)),
            "stale" in cell,
        }

    return look


def test_vectors_of_the_model_as_it_is_are_not_stale(shown):
    assert shown() == {False}


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.set_prompt("passage: "),
        lambda model: model.set_method("int8-static"),
        lambda model: model.change(revision="2"),
        lambda model: model.change(vector_space="another"),
    ],
    ids=["prompt", "method", "weights", "space"],
)
def test_changed_model_makes_its_vectors_stale_until_they_are_made_again(
    item, shown, model, start, change
):
    change(model)
    assert shown() == {True}
    assert start(item.pk).status_code == 202
    work()
    assert shown() == {False}
    assert start(item.pk).status_code == 200


def test_model_that_is_as_it_was_makes_them_fresh_again(shown, model):
    model.change(revision="2")
    model.change(revision="")
    assert shown() == {False}


def test_model_that_is_not_prepared_tells_nothing(item, shown, model):
    MediaItem.objects.update(embedded_revision="2")
    assert model.spec.revision == ""
    assert shown() == {False}


def test_vectors_from_before_revisions_were_kept_are_not_stale(item, shown, model):
    MediaItem.objects.update(embedded_revision=None)
    model.change(revision="2", vector_space="another")
    assert shown() == {False}


@pytest.mark.parametrize(
    "gone", [{"embedding_model": "gone"}, {"embedding_provider": "gone"}]
)
def test_vectors_of_a_model_that_is_gone_are_not_stale(item, shown, gone):
    MediaItem.objects.update(embedded_revision="2", **gone)
    assert shown() == {False}


def test_vectors_of_a_plug_in_that_is_no_longer_installed_are_not_stale(item, shown):
    seed_registry(allowed_providers=[], allowed_models=[])
    MediaItem.objects.update(embedding_provider="gone")
    ProviderSetting.objects.create(name="gone")
    reader.cache_clear()
    assert registry().get("gone") is not None
    assert shown() == {False}


def test_document_without_vectors_is_not_stale(item, shown, client, model):
    client.delete(f"{MEDIA}/{item.pk}/embeddings")
    model.change(revision="2")
    assert shown() == {False}
    item.refresh_from_db()
    assert item.embedded_revision is None


def test_listing_many_documents_reads_the_models_once(
    create, client, model, monkeypatch
):
    """Only the operator's settings are asked for each row, and these are in memory."""
    for number in range(20):
        create(str(number))
    MediaItem.objects.update(
        embedding_count=1,
        embedding_provider="onnx",
        embedding_model=model.spec.name,
        embedded_revision="1",
    )
    monkeypatch.setattr("providers.registry.LISTING_SECONDS", 60.0)
    listings = []

    def models():
        listings.append(1)
        return model.fake.specs

    monkeypatch.setattr(model.fake, "models", models)
    assert client.get(MEDIA).json()["pagination"]["count"] == 20
    assert len(listings) <= 1
