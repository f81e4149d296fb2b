"""Whatever interrupts a job, in whatever order: its chunks end with the vectors of their own texts."""

import contextlib
import random
import time
from datetime import timedelta

import pytest
from django.utils import timezone

from embeddings.services.callers import SINGLE_USER
from media_jobs import chunking
from media_jobs.models import Job, MediaItem
from media_jobs.services import runs, targets
from media_jobs.services.claims import claim_next
from media_jobs.services.items import NewItem, change_item, create_item
from media_jobs.services.jobs import JobOptions, start_job
from media_jobs.services.runs import run
from providers.exceptions import ProviderThrottled
from tests.media_jobs.changing import ChangingModel, die, put_back, wrong_chunks

WORDS = ["cat", "Zwölf", "naïve", "東京都", "e\u0301", "a", "sat", "mat.", "on\n\n"]


class Sequence:
    """One random life of one document's jobs. `choose` decides everything, so that its seed decides it all."""

    def __init__(self, seed, models, monkeypatch):
        self.seed = seed
        self.choose = random.Random(seed)
        self.models = models
        self.model = models[0]
        for model in models:
            model.change(
                max_tokens=12,
                method="fp32",
                revision="fp32 ",
                document_prompt="",
                vector_space="small ",
            )
        self.monkeypatch = monkeypatch
        self.done = []
        self.cut_by = 0
        monkeypatch.setattr(targets, "spans", self._spans)
        monkeypatch.setattr(chunking, "version", lambda name: f"{self.cut_by}")
        self.item = create_item(
            SINGLE_USER, NewItem(title="Random", content=self.text())
        )
        self.interruptions = [
            self.kill,
            self.throttle,
            self.edit_limit,
            self.edit_prompt,
            self.edit_method,
            self.edit_chunks,
            self.upgrade_splitter,
            self.edit_text,
            self.fall_back,
        ]

    def text(self):
        return " ".join(self.choose.choices(WORDS, k=self.choose.randint(30, 50)))

    def _spans(self, text, *, size, overlap, limit=None):
        size = max(size - self.cut_by, overlap + 1)
        return chunking.spans(text, size=size, overlap=overlap, limit=limit)

    def play(self):
        self.edit_chunks()
        for _ in range(self.choose.randint(1, 4)):
            interrupt = self.choose.choice(self.interruptions)
            self.done.append(interrupt.__name__)
            self._run_with(interrupt)
        for model in self.models:
            model.before = lambda: None
        self._let_finish()
        if MediaItem.objects.get().is_stale:  # changed after the last job had ended
            self.edit_chunks()
            self._let_finish()

    def _run_with(self, interrupt):
        """Run the job, interrupted before, in the middle of, or after a call of the model."""
        at, calls = self.choose.randint(0, 3), []

        def before():
            calls.append(1)
            if len(calls) == at:
                interrupt()

        if at == 0:
            self._quietly(interrupt)
        for model in self.models:
            model.before = before
        self._run_once()

    def _run_once(self):
        put_back()
        Job.objects.update(not_before=timezone.now() - timedelta(seconds=1))
        # Sequences are about what is stored, not about when a job is given up.
        Job.objects.filter(status="queued").update(attempts=self.choose.choice((0, 2)))
        if (job := claim_next()) is not None:
            self._quietly(lambda: run(job, until=self._until()))
        self._check()

    def _check(self):
        """At any moment, what is stored is what it says it is."""
        item = MediaItem.objects.get()
        if item.embedding_count and item.embedded_checksum == item.checksum:
            wrong = wrong_chunks(item, *self.models)
            assert not wrong, f"seed {self.seed}: {self.done} left {wrong}"

    def _until(self):
        return time.monotonic() + self.choose.choice((-1, 60, 60, 60))

    def _quietly(self, do):
        with contextlib.suppress(KeyboardInterrupt, ProviderThrottled):
            do()

    def _let_finish(self):
        for _ in range(20):
            self._run_once()
            if not Job.objects.filter(status__in=("queued", "processing")).exists():
                return
        raise AssertionError("The job does not end.")

    def kill(self):
        die()

    def throttle(self):
        raise ProviderThrottled("slow down")

    def fall_back(self):
        """From here on the first model throttles and the other answers, until the run is over."""
        model = self.model

        def throttled():
            raise ProviderThrottled("slow down")

        model.before = throttled
        raise ProviderThrottled("slow down")

    def edit_limit(self):
        self.model.change(max_tokens=self.choose.randint(4, 12))

    def edit_prompt(self):
        self.model.set_prompt(self.choose.choice(("", "passage: ", "two words ")))

    def edit_method(self):
        self.model.set_method(self.choose.choice(("fp32", "int8-static")))

    def upgrade_splitter(self):
        self.cut_by = (self.cut_by + self.choose.choice((5, 9))) % 14

    def edit_text(self):
        change_item(SINGLE_USER, self.item.pk, {"content": self.text()})

    def edit_chunks(self):
        wanted = JobOptions(
            chunk_size=self.choose.choice((30, 35, 40)),
            chunk_overlap=self.choose.choice((0, 5)),
            provider="onnx",
            model=self.model.spec.name,
            dimensions=self.choose.choice((None, None, 4)),
            force=self.choose.random() < 0.2,
        )
        start_job(SINGLE_USER, self.item.pk, wanted)


@pytest.fixture
def models(fakes, listed_at_once):
    return [ChangingModel(fakes["onnx"]), ChangingModel(fakes["huggingface"])]


MANY = (pytest.mark.e2e, pytest.mark.sqlite_only("40 are enough for the rest"))


@pytest.mark.parametrize("sequences", [40, pytest.param(160, marks=MANY)])
def test_chunks_end_with_their_own_vectors(models, monkeypatch, sequences):
    monkeypatch.setattr(runs, "BATCH_CHUNKS", 2)
    first = random.randrange(10**9)
    for seed in range(first, first + sequences):
        sequence = Sequence(seed, models, monkeypatch)
        sequence.play()
        item = MediaItem.objects.get()
        assert item.embedding_count, f"seed {seed}: {sequence.done} left nothing"
        assert not item.is_stale, f"seed {seed}: {sequence.done} left stale vectors"
        item.delete()
        Job.objects.all().delete()
