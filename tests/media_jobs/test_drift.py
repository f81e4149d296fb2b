"""Stored vectors and an upstream, behind real HTTP, whose model is exchanged."""

from datetime import timedelta

import pytest
from django.utils import timezone

from media_jobs.models import Job, MediaItem
from media_jobs.services import runs
from media_jobs.tasks import work
from media_jobs.vector_store.store import vector_store
from providers.base import Provider
from providers.canary import TEXTS, accept, canary
from providers.exceptions import ProviderUnavailable
from providers.models import ModelEntry, ProviderSetting, RemoteSpace
from providers.operator_settings import reader
from providers.plugins.local_api import LocalApiProvider
from providers.registry import registry
from providers.seeding import seed_registry
from tests.fakes import MINILM
from tests.media_jobs.conftest import MEDIA
from tests.upstreams import CompatibleUpstream, vector_for

TEXT = "".join(f"Sentence number {number} says little. " for number in range(40))
MODEL = "local_api:nomic-embed-text:v1.5"
SPACE = "local_api/nomic-embed-text:v1.5"
WIDTH = 768


class Upstream(CompatibleUpstream):
    """Exchange the model with the batch `exchange_at`; refuse batches from `down_at` on, and checks while `blind`."""

    def __init__(self):
        super().__init__()
        self.model_behind = "the former model"
        self.batches = 0
        self.exchange_at = None
        self.down_at = None
        self.blind = False

    def answer(self, path, headers, body):
        texts, _, dimensions, context = super().answer(path, headers, body)
        if is_check(texts):
            self.require(not self.blind, 503, "down")
        else:
            self.batches += 1
            self.require(self.batches != self.down_at, 503, "down")
            if self.batches == self.exchange_at:
                self.model_behind = "another model"
        return texts, self.model_behind, dimensions, context

    @property
    def embedded(self):
        """Return the texts of documents that came in."""
        bodies = [call.body["input"] for call in self.calls]
        return [text for texts in bodies if not is_check(texts) for text in texts]

    @property
    def checks(self):
        return sum(is_check(call.body["input"]) for call in self.calls)


def is_check(texts):
    return texts == list(TEXTS)


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(autouse=True)
def _closed(monkeypatch):
    """Close the connections of every provider that a test has built."""
    built, build = [], LocalApiProvider.from_settings

    def noted(options):
        built.append(build(options))
        return built[-1]

    monkeypatch.setattr(LocalApiProvider, "from_settings", noted)
    yield
    for provider in built:
        provider.close()


@pytest.fixture(autouse=True)
def _set_up(settings, monkeypatch, upstream, fakes):
    settings.EMBEDDINGS_CANARY = True
    options = {"base_url": upstream.base_url, "retries": 0}
    monkeypatch.setitem(settings.PROVIDERS, "local_api", options)
    seed_registry(allowed_providers=[], allowed_models=[])
    monkeypatch.setattr(runs, "BATCH_CHUNKS", 4)
    # Tests make the checks that answers ask for, by the jobs they run.
    monkeypatch.setattr(
        "embeddings.services.space_watch.start_thread", lambda work: None
    )


@pytest.fixture
def job(create, start):
    """A job of twelve chunks or more, four a batch."""
    started = start(
        create(TEXT)["media_id"],
        embedding_model=MODEL,
        chunk_size=100,
        chunk_overlap=0,
    )
    assert started.status_code == 202, started.content
    return Job.objects.get()


@pytest.fixture
def search(client):
    def send(**body):
        reader.cache_clear()
        body = {"query": "Sentence number 7", **body}
        return client.post(f"{MEDIA}/embeddings/search", body, format="json")

    return send


def run_again():
    reader.cache_clear()
    Job.objects.update(not_before=timezone.now() - timedelta(seconds=1))
    work()


def fresh(job):
    job.refresh_from_db()
    return job


def spaces():
    return [space.vector_space for space in vector_store().stats().spaces]


def stored_by(model):
    """Whether every stored vector is that model's of its own chunk, and there are some."""
    chunks = list(MediaItem.objects.get().chunks.order_by("index"))
    space = vector_store().stats().spaces[0]
    for chunk in chunks:
        query = vector_for(chunk.text, WIDTH, model)
        best = vector_store().search(query, space, top_k=1)[0]
        if best.chunk_index != chunk.index or best.score < 0.9999:
            return False
    return bool(chunks)


def accept_drift():
    for row in RemoteSpace.objects.filter(state="drifted"):
        assert accept(row.pk, by="eve")
    reader.cache_clear()


def local_api() -> Provider:
    provider = registry().get("local_api")
    assert provider is not None
    return provider


def nomic():
    provider = local_api()
    return provider, registry().resolve(provider, MODEL.partition(":")[2])


def find_drift():
    """Check as another process does in whose turn the daily check falls."""
    RemoteSpace.objects.update(checked_at=timezone.now() - timedelta(days=2))
    verdict = canary().check(*nomic())
    assert verdict is not None
    assert verdict.drifted


def test_model_that_stays_is_checked_before_and_after_and_stored(job, upstream):
    work()
    assert (fresh(job).status, job.error) == ("completed", "")
    assert stored_by("the former model")
    assert spaces() == [SPACE]
    order = [is_check(call.body["input"]) for call in upstream.calls]
    assert order == [True, *[False] * upstream.batches, True]


def test_model_exchanged_half_way_writes_nothing_into_the_old_space(job, upstream):
    upstream.exchange_at = 3
    work()
    assert fresh(job).status == "failed"
    assert "no longer gives the vectors that are stored" in job.error
    assert "bring the former model back" in job.error
    assert spaces() == []
    assert job.attempts == 1
    assert MediaItem.objects.get().embedding_count == 0


def test_vectors_that_are_stored_outlast_a_job_half_way_through_an_exchange(
    job, start, upstream
):
    work()
    upstream.exchange_at = upstream.batches + 2
    start(
        job.media_id,
        embedding_model=MODEL,
        chunk_size=100,
        chunk_overlap=0,
        force_regenerate=True,
    )
    work()
    assert Job.objects.latest("pk").status == "failed"
    assert stored_by("the former model")


def test_drift_that_is_known_stops_a_job_before_its_first_vector(job, upstream):
    canary().check(*nomic())
    upstream.model_behind = "another model"
    find_drift()
    run_again()
    assert fresh(job).status == "failed"
    assert "no longer gives" in job.error
    assert upstream.embedded == []


def test_former_model_that_is_back_serves_jobs_again(job, start, upstream):
    upstream.exchange_at = 3
    work()
    upstream.model_behind = "the former model"
    RemoteSpace.objects.update(checked_at=timezone.now() - timedelta(minutes=2))
    reader.cache_clear()
    start(job.media_id, embedding_model=MODEL, chunk_size=100, chunk_overlap=0)
    run_again()
    assert Job.objects.latest("pk").status == "completed"
    assert stored_by("the former model")


def test_run_that_goes_on_after_a_revision_was_accepted_begins_again(job, upstream):
    upstream.down_at = 3
    work()
    assert (fresh(job).status, job.chunks_processed) == ("queued", 8)
    upstream.model_behind = "another model"
    find_drift()
    accept_drift()
    run_again()
    assert fresh(job).status == "completed"
    assert stored_by("another model")
    assert spaces() == [f"{SPACE}#2"]


def test_revision_accepted_during_a_run_is_never_mixed_with_the_former(
    job, upstream, monkeypatch
):
    provider = local_api()
    embed = provider.embed

    def embed_and_exchange(*args, **kwargs):
        answer = embed(*args, **kwargs)
        if upstream.batches == 2 and upstream.model_behind == "the former model":
            upstream.model_behind = "another model"
            find_drift()
            accept_drift()
        return answer

    monkeypatch.setattr(provider, "embed", embed_and_exchange)
    work()
    assert fresh(job).status == "completed"
    assert stored_by("another model")
    assert spaces() == [f"{SPACE}#2"]


def test_check_that_cannot_be_made_at_the_end_leaves_the_job_for_later(
    job, upstream, monkeypatch
):
    provider = local_api()
    embed = provider.embed

    def embed_and_go_blind(*args, **kwargs):
        answer = embed(*args, **kwargs)
        upstream.blind = True
        return answer

    monkeypatch.setattr(provider, "embed", embed_and_go_blind)
    work()
    assert (fresh(job).status, spaces()) == ("queued", [])
    monkeypatch.setattr(provider, "embed", embed)
    upstream.blind = False
    done = len(upstream.embedded)
    run_again()
    assert fresh(job).status == "completed"
    assert len(upstream.embedded) == done
    assert stored_by("the former model")


def test_changed_address_with_another_model_is_found_before_an_index_is_written(
    job, start, upstream
):
    work()
    with Upstream() as elsewhere:
        elsewhere.model_behind = "another model"
        row = ProviderSetting.objects.get(name="local_api")
        row.base_url = elsewhere.base_url
        row.save()
        reader.cache_clear()
        start(job.media_id, embedding_model=MODEL, chunk_size=50, chunk_overlap=0)
        run_again()
        assert Job.objects.latest("pk").status == "failed"
        assert elsewhere.embedded == []
    assert stored_by("the former model")


def test_changed_address_with_the_same_model_goes_on(job, start, upstream):
    work()
    with Upstream() as elsewhere:
        row = ProviderSetting.objects.get(name="local_api")
        row.base_url = elsewhere.base_url
        row.save()
        reader.cache_clear()
        start(job.media_id, embedding_model=MODEL, chunk_size=50, chunk_overlap=0)
        run_again()
    assert Job.objects.latest("pk").status == "completed"
    assert spaces() == [SPACE]


@pytest.mark.parametrize("batch", [1, 4])  # of 4
def test_address_changed_during_a_run_serves_the_next_batch_and_the_last_check(
    job, upstream, monkeypatch, batch
):
    provider = local_api()
    embed = provider.embed

    with Upstream() as elsewhere:

        def embed_and_move(*args, **kwargs):
            answer = embed(*args, **kwargs)
            if upstream.batches == batch:
                ProviderSetting.objects.filter(name="local_api").update(
                    base_url=elsewhere.base_url
                )
                reader.cache_clear()
            return answer

        monkeypatch.setattr(provider, "embed", embed_and_move)
        work()
        assert fresh(job).status == "completed"
        assert stored_by("the former model")
        assert upstream.batches == batch
        assert (upstream.checks, is_check(elsewhere.calls[-1].body["input"])) == (
            1,
            True,
        )


def test_switched_off_jobs_are_not_checked(job, upstream, settings):
    settings.EMBEDDINGS_CANARY = False
    work()
    assert fresh(job).status == "completed"
    assert upstream.checks == 0
    assert not RemoteSpace.objects.exists()


def test_remote_fallback_whose_model_was_exchanged_gives_nothing_to_an_index(
    create, start, upstream, fakes, configure
):
    configure(
        fallback_chain={"onnx": ("local_api",)}, fallback_models={"*": upstream.model}
    )
    ModelEntry.objects.create(
        provider="local_api", name=upstream.model, vector_space=MINILM
    )
    fakes["onnx"].fault = ProviderUnavailable("down")
    reader.cache_clear()
    start(create(TEXT)["media_id"], chunk_size=100, chunk_overlap=0)
    upstream.exchange_at = 2
    work()
    assert (Job.objects.get().status, spaces()) == ("queued", [])
    asked = len(upstream.embedded)
    run_again()
    assert (Job.objects.get().status, spaces()) == ("queued", [])
    assert len(upstream.embedded) == asked


def test_search_never_compares_with_a_model_that_drifted(job, search, upstream):
    work()
    assert search().status_code == 200
    upstream.model_behind = "another model"
    find_drift()
    for body in ({}, {"model": MODEL}):
        response = search(**body)
        assert response.status_code == 409
        assert "no longer gives the vectors" in response.json()["detail"]


def test_search_in_what_an_accepted_revision_left_behind_asks_to_embed_again(
    job, start, search, upstream
):
    work()
    upstream.model_behind = "another model"
    find_drift()
    accept_drift()
    for body in ({}, {"model": MODEL}):
        assert search(**body).status_code == 409
    assert "embed the documents again" in search().json()["detail"]
    start(job.media_id, embedding_model=MODEL, chunk_size=100, chunk_overlap=0)
    run_again()
    assert Job.objects.latest("pk").status == "completed"
    found = search(query="Sentence number 7 says little.").json()
    assert found["count"] > 0
    assert spaces() == [f"{SPACE}#2"]
