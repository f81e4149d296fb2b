"""A document's vectors are all of one text, one cutting and one model, whatever changes while a job runs."""

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from django.utils import timezone

from embeddings.services.embed import embed
from embeddings.services.usage.budgets import check_budgets
from media_jobs import chunking
from media_jobs.conf import conf
from media_jobs.models import Job, MediaItem
from media_jobs.services import runs, targets
from media_jobs.services.claims import MAX_ATTEMPTS
from media_jobs.services.runs import run
from media_jobs.tasks import work
from media_jobs.vector_store.store import vector_store
from providers.exceptions import ProviderThrottled, ProviderUnavailable
from providers.models import ModelEntry
from providers.operator_settings import reader
from providers.seeding import seed_registry
from tests.fakes import MINILM
from tests.media_jobs.changing import (
    ChangingModel,
    die,
    put_back,
    wrong_chunks,
)
from tests.media_jobs.conftest import claimed_job

TEXT = "".join(f"Sentence number {number} says little. " for number in range(40))
OPENAI = "text-embedding-3-small"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(runs, "BATCH_CHUNKS", 4)


@pytest.fixture
def other(fakes, listed_at_once):
    """The same model at huggingface, which makes slightly other vectors of the same space."""
    made = ChangingModel(fakes["huggingface"])
    made.change(revision="of huggingface")
    return made


@pytest.fixture
def job(create, start, model):
    """A job of a document of twelve chunks or more, four a batch."""
    media_id = create(TEXT)["media_id"]
    job_id = start(media_id, chunk_size=100, chunk_overlap=0).json()["job_id"]
    return Job.objects.get(public_id=job_id)


def at_call(number, do):
    """Return a `before` that does something at one call."""
    calls = []

    def before():
        calls.append(1)
        if len(calls) == number:
            do()

    return before


def fail(error):
    raise error


def run_until_it_dies(model, *, at):
    model.before = at_call(at, die)
    with pytest.raises(KeyboardInterrupt):
        run(claimed_job(), until=float("inf"))
    put_back()


def make_due():
    Job.objects.update(not_before=timezone.now() - timedelta(seconds=1))


def finished(*models):
    """Run what is due, and return the job and its item, found to be right."""
    work()
    job, item = Job.objects.get(), MediaItem.objects.get()
    assert (job.status, job.error) == ("completed", "")
    assert wrong_chunks(item, *models) == []
    return job, item


def texts_since(model, before):
    return [text for call in model.fake.calls[before:] for text in call]


def cut_elsewhere(monkeypatch, *, by=37):
    real = chunking.spans

    def spans(text, *, size, overlap, limit=None):
        return real(text, size=size - by, overlap=overlap, limit=limit)

    monkeypatch.setattr(targets, "spans", spans)


def test_rows_of_another_cutting_are_not_gone_on_with(job, model, monkeypatch):
    run_until_it_dies(model, at=3)
    cut_elsewhere(monkeypatch)
    finished(model)


def test_rows_of_the_same_texts_are_gone_on_with(job, model):
    run_until_it_dies(model, at=3)
    before = len(model.fake.calls)
    job, _ = finished(model)
    assert len(texts_since(model, before)) == job.chunks_total - 8


def test_token_limit_edited_while_a_job_waits_cuts_again(
    create, start, fakes, listed_at_once
):
    model = ChangingModel(fakes["openai"])
    fakes["openai"].problem = None
    seed_registry(allowed_providers=[], allowed_models=[])
    media_id = create(TEXT)["media_id"]
    assert start(media_id, embedding_model=OPENAI).status_code == 202
    set_max_tokens(20)
    slow = ProviderThrottled("slow down", retry_after_seconds=900)
    model.before = at_call(3, lambda: fail(slow))
    work()
    assert Job.objects.get().chunks_processed == 8
    set_max_tokens(12)
    make_due()
    _, item = finished(model)
    assert max(len(chunk.text.split()) for chunk in item.chunks.all()) <= 12


def set_max_tokens(number):
    """Change a model as the console does."""
    row = ModelEntry.objects.get(name=OPENAI)
    row.max_tokens = number
    row.full_clean()
    row.save()
    reader.cache_clear()


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.set_prompt("passage: "),
        lambda model: model.set_method("int8-static"),
        lambda model: model.change(revision="prepared again"),
        lambda model: model.change(document_prompt="passage: "),
        lambda model: model.change(method="int8-static"),
    ],
    ids=["prompt", "method", "weights", "prompt alone", "method alone"],
)
@pytest.mark.parametrize("during_the_call", [True, False])
def test_model_changed_in_the_middle_of_a_run_leaves_nothing_of_the_old(
    job, model, monkeypatch, change, during_the_call
):
    if during_the_call:
        model.before = at_call(3, lambda: change(model))
    else:
        change_between_calls(model, monkeypatch, at=3, do=lambda: change(model))
    job, item = finished(model)
    assert item.embedded_revision == model.spec.revision
    assert item.vector_space == model.spec.vector_space
    assert vector_store().stats().spaces[0].vector_space == model.spec.vector_space
    assert job.attempts == 1  # the operator's change is no failed attempt
    assert not item.is_stale


def change_between_calls(model, monkeypatch, *, at, do):
    calls = []

    def check(caller):
        calls.append(1)
        if len(calls) == at:
            do()
        check_budgets(caller)

    monkeypatch.setattr(runs, "check_budgets", check)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.set_prompt("passage: "),
        lambda model: model.set_method("int8-static"),
    ],
    ids=["prompt", "method"],
)
def test_model_changed_between_two_runs_leaves_nothing_of_the_old(job, model, change):
    run_until_it_dies(model, at=3)
    change(model)
    _, item = finished(model)
    assert item.embedded_revision == model.spec.revision


def test_longer_prompt_in_the_middle_of_a_run_cuts_again_rather_than_fail(job, model):
    model.change(max_tokens=20)
    prompt = "a prompt of six words more "
    model.before = at_call(3, lambda: model.set_prompt(prompt))
    _, item = finished(model)
    assert max(len((prompt + c.text).split()) for c in item.chunks.all()) <= 20


def test_smaller_limit_in_the_middle_of_a_run_cuts_again_rather_than_fail(
    job, model, monkeypatch
):
    """The next batch is refused as too long, which is not the document's fault."""
    edit = partial(model.change, max_tokens=3)
    change_between_calls(model, monkeypatch, at=3, do=edit)
    job, item = finished(model)
    assert job.attempts == 1
    assert max(len(chunk.text.split()) for chunk in item.chunks.all()) <= 3


def test_job_is_never_answered_by_another_space(create, start, fakes):
    fakes["openai"].problem = None
    fakes["openai"].fault = ProviderUnavailable("down")
    start(create("The cat sat.")["media_id"], embedding_model=OPENAI)
    work()
    assert Job.objects.get().status == "queued"
    assert not fakes["huggingface"].calls
    assert not MediaItem.objects.get().embedding_count


def test_item_tells_who_answered(job, model, other):
    model.before = lambda: fail(ProviderUnavailable("down"))
    _, item = finished(model, other)
    assert item.embedding_provider == "huggingface"
    space = vector_store().stats([item.pk]).spaces[0]
    assert (space.provider, space.model) == ("huggingface", MINILM)


def test_fallback_does_not_go_on_with_the_rows_of_another(job, model, other):
    model.before = at_call(3, lambda: fail(ProviderUnavailable("down")))
    work()
    job.refresh_from_db()
    assert (job.status, job.attempts) == ("queued", 1)
    assert f"onnx:{MINILM}" in job.error
    before = len(model.fake.calls)
    make_due()
    job, item = finished(model, other)
    assert item.embedding_provider == "onnx"
    assert len(texts_since(model, before)) == job.chunks_total - 8


def test_fallback_begins_afresh_where_who_began_stays_away(job, model, other):
    calls = []

    def two_and_then_none():
        calls.append(1)
        if len(calls) > 2:
            raise ProviderUnavailable("down")

    model.before = two_and_then_none
    for _ in range(2):
        work()
        assert Job.objects.get().status == "queued"
        make_due()
    _, item = finished(model, other)
    assert item.embedding_provider == "huggingface"


def test_fallback_that_began_goes_on_though_the_first_is_back(job, model, other):
    model.before = at_call(1, lambda: fail(ProviderUnavailable("down")))
    run_until_it_dies(other, at=3)
    before = len(other.fake.calls)
    job, item = finished(model, other)
    assert item.embedding_provider == "huggingface"
    assert len(texts_since(other, before)) == job.chunks_total - 8


def test_rows_of_a_fallback_are_dropped_once_the_job_s_model_left_its_space(
    job, model, other
):
    model.before = at_call(1, lambda: fail(ProviderUnavailable("down")))
    run_until_it_dies(other, at=3)
    model.set_prompt("passage: ")
    job, item = finished(model, other)
    assert (item.embedding_provider, job.attempts) == ("onnx", 2)


def test_fallback_that_changes_on_the_way_leaves_nothing_of_the_old(job, model, other):
    model.before = lambda: fail(ProviderUnavailable("down"))
    other.before = at_call(3, lambda: other.set_method("int8-static"))
    job, item = finished(model, other)
    assert (item.embedding_provider, job.attempts) == ("huggingface", 1)


def test_answer_of_another_space_is_refused_whoever_let_it_through(
    create, start, fakes, monkeypatch
):
    monkeypatch.setattr(runs, "embed", lambda r: embed(replace(r, fallback="any")))
    fakes["openai"].problem = None
    fakes["openai"].fault = ProviderUnavailable("down")
    start(create("The cat sat.")["media_id"], embedding_model=OPENAI)
    work()
    job = Job.objects.get()
    assert job.status == "queued"
    assert "another vector space" in job.error
    assert not list(conf().work_dir.glob("mej_*"))


def test_provider_that_flaps_ends_the_job(job, model, other):
    """Who answers changes at every call: nothing is mixed, and the attempts end."""
    flaps = [True]

    def every_other():
        flaps[0] = not flaps[0]
        if flaps[0]:
            raise ProviderUnavailable("down")

    model.before = other.before = every_other
    for _ in range(MAX_ATTEMPTS):
        make_due()
        work()
    job = Job.objects.get()
    assert (job.status, job.attempts) == ("failed", MAX_ATTEMPTS)
    assert not MediaItem.objects.get().embedding_count


def test_other_size_of_the_vectors_begins_afresh(job, model):
    run_until_it_dies(model, at=3)
    model.change(dimensions=6)
    work()
    job.refresh_from_db()
    assert job.status == "queued"
    assert "did not go on with the same vectors" in job.error
    make_due()
    _, item = finished(model)
    assert item.dimensions == 6


def test_size_that_the_model_makes_itself_is_another_identity(job, model, start):
    Job.objects.update(dimensions=4)
    run_until_it_dies(model, at=3)
    model.change(native_dimensions=(4, 8))
    _, item = finished(model)
    assert item.dimensions == 4


def test_damaged_rows_are_never_stored(job, model):
    damaged = []

    def damage():
        (file,) = conf().work_dir.glob("mej_*")
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        damaged.append(True)

    model.before = at_call(3, damage)
    work()
    job.refresh_from_db()
    assert damaged
    assert (job.status, job.attempts) == ("queued", 1)
    assert "damaged" in job.error
    assert not list(conf().work_dir.glob("mej_*"))
    make_due()
    finished(model)


def test_two_runs_at_once_store_no_wrong_vector(job, model):
    """A run that stood still is overtaken, and goes on embedding before it notices."""
    old = claimed_job()

    def be_overtaken():
        Job.objects.update(status="queued", claim="")
        model.before = at_call(2, die)
        with pytest.raises(KeyboardInterrupt):
            run(claimed_job(), until=float("inf"))
        put_back()

    model.before = at_call(2, be_overtaken)
    run(old, until=float("inf"))
    finished(model)
