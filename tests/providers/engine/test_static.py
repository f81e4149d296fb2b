"""Static models: a table of token vectors, served as sentence-transformers and model2vec serve it, without either."""

import json
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from providers.base import InputType
from providers.engine.hub import Hub
from providers.engine.model_config import Kind, read_model_config
from providers.engine.weights import Weights
from providers.exceptions import ProviderMisconfigured, TextsTooLong
from providers.plugins.huggingface import HuggingFaceProvider
from providers.plugins.onnx import OnnxProvider
from tests.providers.engine import tiny
from tests.providers.engine.fake_hub import NAME, FakeHub
from tests.servers import serving

WORDS = [*tiny.WORDS, *"0123456789.,;:!?()[]{}=+-*/_'\"#", "the", "##ing", "word"]
TOKENS, UNKNOWN = len(WORDS), WORDS.index("[UNK]")
WIDTH = 24
TEXTS = [
    "a",
    "the word",
    "wording; the 42 words (a+b)!",
    "Grüße aus Köln",
    "中文 and words",
    "e\u0301 é",
    "the the the a",
    "word " * 300,
    *(f"the {number} th word of {number * 7}" for number in range(20)),
]


def write_tokenizer(path, *, limit=None, unigram=False):
    """Write a tokenizer.json that would put special tokens around a text and pad it, if it were let."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if unigram:
        pieces = [(word.removeprefix("##"), -float(n)) for n, word in enumerate(WORDS)]
        tokenizer = Tokenizer(models.Unigram(pieces, unk_id=UNKNOWN))
    else:
        tokens = {word: index for index, word in enumerate(WORDS)}
        tokenizer = Tokenizer(models.WordPiece(tokens, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=8)
    if limit:
        tokenizer.enable_truncation(limit)
    tokenizer.save(str(path))


def table(rows=TOKENS, *, kind=np.float32):
    values = np.random.default_rng(3).standard_normal((rows, WIDTH)) * 0.4
    return (values * 100).astype(kind) if kind == np.int8 else values.astype(kind)


def write_static(folder, *, at="", kind=np.float32, limit=None, then=("Normalize",)):
    """Write sentence-transformers' layout: the table at the root or in a folder of its own."""
    write_tokenizer(folder / at / "tokenizer.json", limit=limit)
    save_file({"embedding.weight": table(kind=kind)}, folder / at / "model.safetensors")
    kinds = [(at, "StaticEmbedding"), *((f"{n}_{k}", k) for n, k in enumerate(then, 1))]
    listed = [
        {
            "idx": n,
            "name": str(n),
            "path": path,
            "type": f"sentence_transformers.models.{k}",
        }
        for n, (path, k) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    return folder


def write_model2vec(folder, tensors=None, *, unigram=False, **config):
    """Write the layout that model2vec alone reads."""
    write_tokenizer(folder / "tokenizer.json", unigram=unigram)
    save_file(tensors or {"embeddings": table()}, folder / "model.safetensors")
    described = {"model_type": "model2vec", "normalize": True} | config
    (folder / "config.json").write_text(json.dumps(described))
    return folder


@pytest.fixture
def served(tmp_path):
    """Return a function that prepares a folder and returns its provider and model."""
    providers = []

    def serve(folder, plugin=HuggingFaceProvider):
        options = {"data_dir": tmp_path / "data", "model_paths": (folder,)}
        provider = plugin.from_settings(options | {"process": "inline"})
        providers.append(provider)
        provider.engine.weights._reference = None
        provider.download(folder.name)
        return provider, provider.resolve(folder.name)

    yield serve
    for provider in providers:
        provider.close()


def embed(provider, spec, texts, input_type: InputType = "document"):
    return provider.embed(
        spec, texts, dimensions=None, input_type=input_type, timeout_seconds=60
    ).vectors


def least_cosine(found, expected):
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return ((found * expected).sum(axis=1) / lengths).min()


@pytest.mark.parametrize("plugin", [HuggingFaceProvider, OnnxProvider])
@pytest.mark.parametrize(
    ("at", "kind", "then"),
    [
        ("", np.float32, ("Normalize",)),
        ("0_StaticEmbedding", np.float32, ()),
        (".", np.float16, ("Normalize",)),
    ],
)
def test_vectors_are_those_of_sentence_transformers(
    tmp_path, served, torch_reference, plugin, at, kind, then
):
    folder = write_static(tmp_path / "static", at=at, kind=kind, then=then)
    reference = torch_reference.sentence_transformers.SentenceTransformer(
        str(folder), device="cpu"
    ).float()
    provider, spec = served(folder, plugin)
    found = embed(provider, spec, TEXTS)
    assert np.abs(found - reference.encode(TEXTS)).max() < 1e-5
    alone = np.concatenate([embed(provider, spec, [text]) for text in TEXTS])
    assert np.abs(found - alone).max() < 1e-6
    assert (spec.dimensions, spec.max_tokens, spec.precision) == (WIDTH, None, "exact")


def test_what_sentence_transformers_6_saves_is_served_with_its_dense_layer_and_prompts(
    tmp_path, served, torch_reference
):
    write_tokenizer(tmp_path / "tokenizer.json")
    static = torch_reference.sentence_transformers.sentence_transformer.modules
    layers = [
        static.StaticEmbedding(
            Tokenizer.from_file(str(tmp_path / "tokenizer.json")), table()
        ),
        torch_reference.Dense(WIDTH, 10),
        torch_reference.Normalize(),
    ]
    prompts = {"query": "the word: ", "document": ""}
    model = torch_reference.sentence_transformers.SentenceTransformer(
        modules=layers, prompts=prompts, device="cpu"
    )
    model.save(str(tmp_path / "six"))
    provider, spec = served(tmp_path / "six")
    by_input_type: dict[InputType, Any] = {
        "query": model.encode_query(TEXTS),
        "document": model.encode_document(TEXTS),
    }
    for input_type, expected in by_input_type.items():
        found = embed(provider, spec, TEXTS, input_type)
        assert np.abs(found - expected).max() < 1e-5
    assert np.abs(model.encode_query(TEXTS) - model.encode_document(TEXTS)).max() > 0.1
    assert spec.dimensions == 10


def test_a_static_model_is_compared_with_sentence_transformers_when_it_is_prepared(
    tmp_path, torch_reference
):
    from providers.engine.reference import sentence_transformers

    folder = write_static(tmp_path / "static", at="0_StaticEmbedding", kind=np.float16)
    weights = Weights(
        tmp_path / "data", model_paths=(folder,), reference=sentence_transformers
    )
    proof = weights.prepare("static").manifest.proof
    assert proof is not None
    assert proof.verified == "reference"


def read_as_model2vec(folder, texts):
    """Return what StaticModel.encode gives (model2vec 0.10): unknown words play no part."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    stored = load_file(folder / "model.safetensors")
    vectors = []
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        ids = [one for one in ids if one != UNKNOWN]
        rows = stored["mapping"][ids] if "mapping" in stored else ids
        found = stored["embeddings"][rows].astype(np.float32)
        if "weights" in stored:
            found *= stored["weights"][ids][:, None]
        vectors.append(found.mean(axis=0))
    return np.stack(vectors)


QUANTISED = {
    "embeddings": table(12, kind=np.int8),
    "mapping": np.arange(len(WORDS), dtype=np.int64) % 12,
    "weights": np.linspace(0.1, 2, len(WORDS), dtype=np.float32),
}


@pytest.mark.parametrize("unigram", [False, True])
@pytest.mark.parametrize(
    "tensors", [None, QUANTISED, {"embeddings": table(kind=np.int8)}]
)
def test_vectors_are_those_of_model2vec_where_only_that_reads_the_folder(
    tmp_path, served, tensors, unigram
):
    folder = write_model2vec(tmp_path / "potion", tensors, unigram=unigram)
    provider, spec = served(folder)
    expected = read_as_model2vec(folder, TEXTS)
    found = embed(provider, spec, TEXTS)
    assert least_cosine(found, expected) > 0.999999
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-5


def test_vectors_keep_their_length_where_the_model_does_not_normalise(tmp_path, served):
    folder = write_model2vec(tmp_path / "potion", normalize=False)
    provider, spec = served(folder)
    found = embed(provider, spec, TEXTS)
    assert np.abs(found - read_as_model2vec(folder, TEXTS)).max() < 1e-6


def test_a_config_without_a_type_is_model2vecs_where_that_wrote_it(tmp_path):
    folder = write_model2vec(tmp_path / "potion")
    (folder / "config.json").write_text('{"embedding_dtype": "float32"}')
    config = read_model_config(folder)
    assert config.static is not None
    assert not config.normalize
    assert config.kind is Kind.EMBEDDING


@pytest.mark.parametrize(
    ("config", "limit"),
    [({}, 512), ({"max_length": 7}, 7), ({"max_length": None}, None)],
)
def test_model2vecs_limit_holds(tmp_path, served, config, limit):
    provider, spec = served(write_model2vec(tmp_path / "potion", **config))
    assert spec.max_tokens == limit
    if limit:
        with pytest.raises(TextsTooLong):
            embed(provider, spec, ["the " * (limit + 1)])
        cut = provider.tokenizer(spec).truncate("the " * (limit + 1), limit)
        assert cut.split() == ["the"] * limit
    else:
        assert embed(provider, spec, ["the " * 5000]).shape == (1, WIDTH)


def test_the_tokenizers_own_truncation_is_a_limit_as_in_sentence_transformers(
    tmp_path, served
):
    provider, spec = served(write_static(tmp_path / "static", limit=9))
    assert spec.max_tokens == 9
    assert provider.tokenizer(spec).count(["the " * 10]) == [10]
    with pytest.raises(TextsTooLong):
        embed(provider, spec, ["the " * 10])


def test_a_truncation_that_stands_after_a_large_vocabulary_is_found(tmp_path):
    folder = write_static(tmp_path / "static", limit=9)
    path = folder / "tokenizer.json"
    stored = json.loads(path.read_text())
    limit = stored.pop("truncation")
    path.write_text(json.dumps({"a": "x" * 9000, **stored, "truncation": limit}))
    assert read_model_config(folder).max_tokens == 9
    path.write_text(json.dumps(stored | {"truncation": {"max_length": "9"}}))
    with pytest.raises(ProviderMisconfigured, match="truncation"):
        read_model_config(folder)


def test_no_special_tokens_are_counted_and_unknown_words_alone_are_blank_for_model2vec(
    tmp_path, served
):
    texts = ["the word", "", "中", "中 the"]
    static, spec = served(write_static(tmp_path / "static"))
    assert static.tokenizer(spec).count(texts) == [2, 0, 1, 2]
    potion, spec = served(write_model2vec(tmp_path / "potion"))
    assert potion.tokenizer(spec).count(texts) == [2, 0, 0, 2]


def test_memory_is_counted_as_the_float32_that_is_loaded(tmp_path, served):
    provider, spec = served(write_static(tmp_path / "static", kind=np.float16))
    assert provider.serving(spec).memory_bytes == 4 * len(WORDS) * WIDTH
    assert provider.serving(spec).runtime == "static"
    provider, spec = served(write_model2vec(tmp_path / "potion", QUANTISED))
    assert provider.serving(spec).memory_bytes == 4 * 12 * WIDTH + 12 * len(WORDS)


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"embeddings": table(9)}, "vectors for 9"),
        ({"embeddings": table(), "embedding.weight": table()}, "two tables"),
        ({"other": table()}, "no table"),
        ({"embeddings": table(), "bias": table()}, "holds bias"),
        ({"embeddings": table()[0]}, "no table of vectors"),
        ({"embedding.weight": table(kind=np.int8)}, "no table of vectors"),
        (QUANTISED | {"mapping": QUANTISED["mapping"] + 1}, "rows that its table"),
        (QUANTISED | {"mapping": QUANTISED["weights"]}, "mapping is not"),
        (QUANTISED | {"weights": table()[0]}, "not of as many tokens"),
        (
            {"embeddings": table(), "weights": np.ones(9, np.float32)},
            "vectors for 9",
        ),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, served, tensors, reason):
    with pytest.raises(ProviderMisconfigured, match=reason):
        served(write_model2vec(tmp_path / "potion", tensors))


def test_a_damaged_or_absent_table_is_refused(tmp_path, served):
    folder = write_static(tmp_path / "static")
    (folder / "model.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(ProviderMisconfigured, match="damaged"):
        served(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ProviderMisconfigured, match=r"no model\.safetensors"):
        served(folder)


def test_a_module_that_no_static_model_has_is_refused(tmp_path):
    folder = write_static(tmp_path / "static", then=("Pooling",))
    with pytest.raises(
        ProviderMisconfigured, match="static model with a module Pooling"
    ):
        read_model_config(folder)


@pytest.mark.parametrize("at", ["", "0_StaticEmbedding"])
def test_a_hubs_static_model_is_fetched_with_its_tokenizer_and_table(
    tmp_path, monkeypatch, at
):
    repository = write_static(tmp_path / "repository", at=at)
    save_file({"a": table()}, repository / "other.safetensors")
    with serving(FakeHub(repository)) as hub:
        weights = Weights(tmp_path / "data", hub=Hub(endpoint=hub.endpoint))
        prepared = weights.prepare(NAME)
    below = f"{at}/" if at else ""
    assert prepared.runtime == "static"
    assert {*prepared.manifest.files} == {
        "modules.json",
        f"{below}tokenizer.json",
        f"{below}model.safetensors",
    }
