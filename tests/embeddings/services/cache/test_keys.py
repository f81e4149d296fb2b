from embeddings.services.cache.keys import cache_keys
from embeddings.services.types import Target
from providers.base import ModelSpec


def test_keys_differ_by_everything_that_changes_the_vector():
    spec = ModelSpec(name="m", dimensions=2, max_tokens=5, vector_space="s")
    revised = ModelSpec(
        name="m", dimensions=2, max_tokens=5, vector_space="s", revision="2"
    )

    def key(provider="p", model=spec, dimensions=None, input_type="document", text="t"):
        target = Target(provider=provider, model=model)
        return cache_keys(
            target, dimensions=dimensions, input_type=input_type, texts=[text]
        )[0]

    keys = {
        key(),
        key(provider="q"),
        key(model=revised),
        key(dimensions=2),
        key(input_type="query"),
        key(text="u"),
    }
    assert len(keys) == 6
