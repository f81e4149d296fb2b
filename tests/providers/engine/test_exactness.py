"""The default model against sentence-transformers in float32, text by text."""

import builtins
import datetime
import decimal
import importlib
import json
import pydoc
import random
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

ODD_TEXTS = [
    "a",
    "Z",
    "7",
    ".",
    "é",
    "e\u0301",
    "\u0301",
    "中",
    "中文字符没有空格",
    "日本語のテキスト、句読点。",
    "한국어 문장입니다",
    "Ελληνικά κείμενα",
    "русский текст",
    "نص عربي",
    "טקסט עברי",
    "हिन्दी पाठ",
    "ภาษาไทยไม่มีช่องว่าง",
    "🎉",
    "👩‍👩‍👧‍👦 family",
    "🏳️‍🌈🏴‍☠️",
    "  leading",
    "trailing  \n",
    "tab\tand\nnewline\r\nand  double",
    "no\u00a0break\u2003em\u200bzero\ufeffbom",
    "\x01\x02control\x7f",
    "ﬁne ligature Ⅻ ½ ™",
    "\uff26\uff35\uff2c\uff2c width",
    "ß \u017f İ \u0131",
    "[CLS] [SEP] [PAD] [MASK] [UNK]",
    "<|endoftext|>",
    "#" * 300,
    "x" * 5000,
    "a-b_c/d.e,f;g:h!i?j(k)l[m]n{o}p",
    "1234567890" * 12,
    "https://example.com/a?b=c&d=%20#e",
    "SELECT * FROM t WHERE a = 'b';",
    "\U0001d54f math \U00020000 rare",
    "\ue000 private \ufffd",
]


def paragraphs():
    """Texts that any machine with Python has: docstrings and the licence."""
    texts = [
        (pydoc.getdoc(getattr(module, name, None)) or "").strip()
        for module, name in _documented()
    ]
    licence = [part.strip() for part in str(builtins.license).split("\n\n")]
    return [text for text in [*texts, *licence] if text]


def _documented():
    names = "argparse asyncio collections datetime decimal email http.client logging os statistics string textwrap"
    modules = [importlib.import_module(name) for name in names.split()]
    for module in (
        *modules,
        str,
        bytes,
        dict,
        list,
        int,
        float,
        set,
        decimal.Decimal,
        datetime.datetime,
        Path,
    ):
        yield module, "__doc__"
        for name in sorted(dir(module)):
            if not name.startswith("_"):
                yield module, name


def generated(seed):
    """Random text over many scripts, with white space in odd places."""
    source = random.Random(seed)
    blocks = [
        (32, 126),
        (160, 591),
        (768, 879),
        (880, 1023),
        (1024, 1279),
        (1424, 1791),
        (12352, 12543),
        (19968, 20500),
    ]
    blocks += [(127744, 128591), (44032, 44200), (8192, 8303), (2304, 2431)]
    low, high = zip(*source.choices(blocks, k=3), strict=True)
    characters = [
        chr(source.randint(a, b))
        for _ in range(source.randint(1, 40))
        for a, b in zip(low, high, strict=True)
    ]
    text = "".join(c for c in characters if unicodedata.category(c) != "Cs")
    return text.strip() or "empty"


@pytest.fixture(scope="module")
def corpus(minilm):
    tokenizer = minilm.tokenizer(minilm.resolve("all-MiniLM-L6-v2"))
    texts = [
        *dict.fromkeys(
            [*ODD_TEXTS, *(generated(seed) for seed in range(150)), *paragraphs()]
        )
    ]
    # Most are cut short, to keep torch's part of the test brief.
    short = [
        tokenizer.truncate(text, 256 if index % 20 == 0 else 40)
        for index, text in enumerate(texts[:520])
    ]
    exact = [tokenizer.truncate("word " * 400, length) for length in (3, 64, 255, 256)]
    return [text for text in [*short, *exact] if text]


@pytest.fixture(scope="module")
def model(minilm):
    return minilm.resolve("all-MiniLM-L6-v2")


def embed(provider, texts):
    model = provider.resolve("all-MiniLM-L6-v2")
    return provider.embed(
        model, texts, dimensions=None, input_type="document", timeout_seconds=120
    ).vectors


def cosines(a, b):
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def test_every_text_is_within_0_9999_of_sentence_transformers(
    minilm, model, corpus, torch_reference
):
    found = embed(minilm, corpus)
    folder = minilm.engine.weights.find(model.name).path
    reference = torch_reference.sentence_transformers.SentenceTransformer(
        str(folder), device="cpu"
    )
    expected = reference.encode(corpus, batch_size=32, show_progress_bar=False)
    similarity = cosines(found, expected)
    assert len(corpus) >= 500
    assert similarity.min() >= 0.9999, corpus[int(similarity.argmin())]
    assert np.abs(found - expected).max() < 1e-4


def test_the_corpus_reaches_the_limit_exactly(minilm, model, corpus):
    counts = minilm.tokenizer(model).count(corpus)
    assert max(counts) == 256
    assert min(counts) <= 3


def test_a_text_has_the_same_vector_whatever_its_batch_mates(minilm, corpus):
    mates = corpus[::4]
    together = embed(minilm, mates)[::4]
    alone = np.concatenate([embed(minilm, [text]) for text in mates[::4]])
    assert np.abs(together - alone).max() < 1e-6


def test_vectors_are_float32_of_unit_length(minilm):
    vectors = embed(minilm, ["one", "two"])
    assert vectors.dtype == np.float32
    assert vectors.shape == (2, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1], abs=1e-6)


def test_serving_imports_neither_torch_nor_what_only_preparing_needs(data_dir):
    script = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from providers.plugins.huggingface import HuggingFaceProvider\n"
        f"provider = HuggingFaceProvider.from_settings({{'data_dir': Path({str(data_dir)!r})}})\n"
        "model = provider.resolve('all-MiniLM-L6-v2')\n"
        "provider.embed(model, ['x'], dimensions=None, input_type='query', timeout_seconds=60)\n"
        "provider.close()\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True
    )
    imported = set(json.loads(finished.stdout))
    assert not imported & {
        "torch",
        "transformers",
        "sentence_transformers",
        "huggingface_hub",
        "onnx",
        "django",
    }
