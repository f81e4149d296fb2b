"""What is put before each text takes its part of the model's limit."""

import pytest

from media_jobs.models import Job, MediaItem
from media_jobs.tasks import work
from tests.media_jobs.changing import InvisibleTokenizer, wrong_chunks


def test_chunks_and_the_prompt_fill_the_limit_to_the_token(create, start, model):
    model.change(max_tokens=10)
    longest = {}
    for words in (0, 1, 6):
        prompt = "word " * words
        model.set_prompt(prompt)
        media_id = create("cat " * 200)["media_id"]
        start(media_id)
        work()
        item = MediaItem.objects.get(pk=media_id)
        assert wrong_chunks(item, model) == []
        longest[words] = max(len(c.text.split()) for c in item.chunks.all())
    assert longest == {0: 9, 1: 8, 6: 3}


def test_prompt_that_leaves_no_tokens_fails_the_job_and_says_so(create, start, model):
    start(create()["media_id"])
    model.set_prompt("word " * 10)
    work()
    job = Job.objects.get()
    assert (job.status, job.attempts) == ("failed", 1)
    assert "document prompt" in job.error
    assert "10 tokens" in job.error


@pytest.mark.parametrize("max_tokens", [10, None])
def test_text_that_the_tokenizer_leaves_nothing_of_fails_the_job(
    create, start, model, monkeypatch, max_tokens
):
    monkeypatch.setattr(model.fake, "tokenizer", lambda spec: InvisibleTokenizer())
    model.change(max_tokens=max_tokens)
    start(create("\u200b" * 20)["media_id"])
    work()
    job = Job.objects.get()
    assert (job.status, job.attempts) == ("failed", 1)
    assert "nothing that" in job.error
    assert not model.fake.calls


def test_without_a_tokenizer_the_prompt_takes_its_characters(
    create, start, model, monkeypatch
):
    monkeypatch.setattr(model.fake, "tokenizer", lambda spec: None)
    model.change(max_tokens=50)
    model.set_prompt("twenty characters   ")
    start(create("x" * 1000)["media_id"])
    work()
    chunks = MediaItem.objects.get().chunks.all()
    assert max(len(chunk.text) for chunk in chunks) == 80
