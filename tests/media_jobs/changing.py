"""A model whose operator changes it: its vectors follow its prompt, its weights and how it computes."""

from dataclasses import replace

import numpy as np

from media_jobs.models import Job
from media_jobs.vector_store.store import vector_store
from providers.base import Embedded
from tests import databases
from tests.fakes import WordTokenizer, vector_of


class ChangingModel:
    """The model of one fake provider. `before`: called before each computation; what it raises is raised."""

    def __init__(self, fake):
        self.fake = fake
        self.spec = fake.specs[0]
        self.known = {}
        self.before = lambda: None
        fake.embed = self._embed
        self.change()

    def change(self, **fields):
        """Make the model another one."""
        self.spec = replace(self.spec, **fields)
        self.fake.specs = (self.spec, *self.fake.specs[1:])
        label = (self.fake.name, self.spec.name, self.spec.revision)
        self.known[*label, self.spec.vector_space] = self.spec

    def set_prompt(self, prompt):
        """Change the prompt, and with it what must change."""
        self.change(
            document_prompt=prompt,
            revision=f"{self.spec.method} {prompt}",
            vector_space=f"small {prompt}",
        )

    def set_method(self, method):
        """Change how it computes: other vectors, which may be compared with the old ones."""
        prompt = self.spec.document_prompt
        self.change(method=method, revision=f"{method} {prompt}")

    def _embed(self, model, texts, *, dimensions, input_type, timeout_seconds):
        self.fake.calls.append(list(texts))
        self.before()
        size = dimensions or self.spec.dimensions
        vectors = [vector_by(self.spec, self.fake.name, text, size) for text in texts]
        return Embedded(vectors=np.stack(vectors))


class InvisibleTokenizer(WordTokenizer):
    """Reads nothing where nothing is seen."""

    def count(self, texts):
        return super().count([text.replace("\u200b", "") for text in texts])


def vector_by(spec, provider, text, size):
    """Return what the model makes of a document's text, float32 (size,)."""
    nearly = vector_of(f"{provider} {spec.method} {size} {text}", size)
    return vector_of(spec.document_prompt + text, size) + nearly / 20


def die():
    """End a run as kill -9 does: nothing after it is done."""
    raise KeyboardInterrupt


def wrong_chunks(item, *models):
    """Return the item's chunks that are not at their place, or whose vector is not the one its item says it is."""
    label = (item.embedding_provider, item.embedding_model, item.embedded_revision)
    known = {key: spec for model in models for key, spec in model.known.items()}
    spec = known[*label, item.vector_space]
    asked = item.dimensions
    size = asked if asked in spec.native_dimensions else spec.dimensions
    chunks = list(item.chunks.order_by("index"))
    stored = vector_store().vectors([chunk.pk for chunk in chunks])
    assert len(chunks) == item.embedding_count
    kept_within = 1e-3 if databases.on_postgres() else 1e-6  # in half precision there
    wrong = []
    for chunk in chunks:
        vector = vector_by(spec, label[0], chunk.text, size)[:asked]
        vector /= np.linalg.norm(vector)
        at_place = item.content[chunk.start : chunk.end] == chunk.text
        if not at_place or not np.allclose(stored[chunk.pk], vector, atol=kept_within):
            wrong.append(chunk.text)
    return wrong


def put_back():
    """Free jobs whose runs died, as the worker's look after its processes does."""
    Job.objects.filter(status="processing").update(status="queued", claim="")
