"""Jobs on real text: what they cost beside the engine alone, and whether search finds a sentence's document again.

    python -m benchmarks.media_jobs --megabytes 5

Documents found on this machine (Python's language reference, documentation and licences under /usr/share) are stored
and embedded in a data folder of their own, in this process. The engine alone then embeds the same chunks; both are
compared by processor time and by the clock. Then 200 sentences that only one document contains are looked for. With
`--whole` all texts are one document, and its job is measured alone.
"""

import argparse
import itertools
import os
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
SENTENCES = 200
RUN_WORDS = 5
SENTENCE = re.compile(r"(?<=[.!?]) +(?=[A-Z])")
FOLDERS = (Path("/usr/share/doc"), Path("/usr/share/perl"), Path("/usr/share/man"))
ENDINGS = {"", ".txt", ".md", ".rst", ".pod"}
SIZES = range(2_000, 100_000)
BATCH = 2048


def documents(limit_bytes: int) -> dict[str, str]:
    """Return title -> text, no text twice."""
    found: dict[str, str] = {}
    size = 0
    for title, text in _candidates():
        if text in found.values():
            continue
        found[title] = text
        size += len(text)
        if size >= limit_bytes:
            break
    return found


def _candidates() -> Iterator[tuple[str, str]]:
    """Yield documents of all kinds, mixed."""
    paths = [path for folder in FOLDERS for path in sorted(folder.rglob("*"))]
    places: list[str | Path] = [*topics, *paths]
    random.Random(0).shuffle(places)
    for place in places:
        text = topics[place] if isinstance(place, str) else _text_of(place)
        if len(text) in SIZES and "\0" not in text:
            yield str(place), text


def _text_of(path: Path) -> str:
    if not path.is_file() or path.suffix not in ENDINGS:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def known_sentences(texts: dict[str, str]) -> list[tuple[str, str]]:
    """Return `(title, sentence)`, at random, of sentences that only one document contains.

    Licences and changelogs repeat each other with a word or a mark changed: no run of words may stand elsewhere.
    """
    places: Counter[tuple[str, ...]] = Counter()
    pairs = []
    for title, text in texts.items():
        places.update(set(_runs(text)))
        sentences = {" ".join(s.split()) for s in SENTENCE.split(text)}
        pairs += [
            (title, sentence)
            for sentence in sorted(sentences)
            if 60 <= len(sentence) <= 200 and sentence.count(" ") > 8
        ]
    random.Random(0).shuffle(pairs)
    unique = (p for p in pairs if all(places[run] == 1 for run in _runs(p[1])))
    return list(itertools.islice(unique, SENTENCES))


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return zip(*(words[start:] for start in range(RUN_WORDS)), strict=False)


class Watch:
    """Seconds by the clock and of the processor."""

    def __init__(self) -> None:
        self._began = (time.perf_counter(), time.process_time())

    def read(self) -> tuple[float, float]:
        clock, processor = self._began
        return time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=5.0)
    parser.add_argument("--provider", default="huggingface")
    parser.add_argument("--chunk-size", type=int, default=1000)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--weights", type=Path, default=Path(".tools/test-data"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"DATA_DIR": folder, "LOG_LEVEL": "warning"}
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "embeddings_project.settings")
        for name in ("prepared", "tiktoken"):
            (Path(folder) / name).symlink_to((options.weights / name).absolute())
        texts = documents(int(options.megabytes * 1e6))
        if options.whole:
            texts = {"everything": "\n\n".join(texts.values())}
        measure(texts, options.provider, options.chunk_size)


def measure(texts: dict[str, str], provider: str, chunk_size: int) -> None:
    """Run jobs, the engine alone, and the search; print what came out."""
    import django

    django.setup()
    from django.core.management import call_command

    from embeddings.services.callers import SYSTEM
    from media_jobs.models import Job, StoredChunk
    from media_jobs.services.claims import claim_next
    from media_jobs.services.items import NewItem, create_item
    from media_jobs.services.jobs import JobOptions, start_job
    from media_jobs.services.runs import run
    from media_jobs.services.search import SearchQuery, search
    from providers.registry import registry

    call_command("migrate", verbosity=0)
    wanted = JobOptions(
        model=MODEL,
        provider=provider,
        chunk_size=chunk_size,
        chunk_overlap=chunk_size // 5,
    )
    for title, text in texts.items():
        item = create_item(SYSTEM, NewItem(title=title[-500:], content=text))
        start_job(SYSTEM, item.pk, wanted)
    local = registry().get(provider)
    model = local.resolve(MODEL) if local else None
    if local is None or model is None:
        raise SystemExit(f"{provider} is not there")
    local.warm_up(model, timeout_seconds=600)

    watch = Watch()
    while (job := claim_next()) is not None:
        run(job, until=float("inf"))
    job_clock, job_processor = watch.read()
    states = Counter(Job.objects.values_list("status", flat=True))
    chunks = list(StoredChunk.objects.values_list("text", flat=True))
    print(
        f"{len(texts)} documents, {sum(map(len, texts.values())) / 1e6:.1f} MB, {len(chunks)} chunks"
    )
    print(f"jobs {dict(states)}: {job_clock:.1f} s, processor {job_processor:.1f} s")

    watch = Watch()
    for start in range(0, len(chunks), BATCH):
        local.embed(
            model,
            chunks[start : start + BATCH],
            dimensions=None,
            input_type="document",
            timeout_seconds=600,
        )
    clock, processor = watch.read()
    print(f"engine alone: {clock:.1f} s, processor {processor:.1f} s")
    print(
        f"jobs run at {clock / job_clock:.0%} of the engine's speed, {processor / job_processor:.0%} by processor time"
    )

    if len(texts) == 1:
        return
    sentences = known_sentences(texts)
    for hybrid in (False, True):
        hits = 0
        for title, sentence in sentences:
            query = SearchQuery(text=sentence, top_k=1, hybrid=hybrid)
            hits += search(SYSTEM, query).found[0].item.title == title[-500:]
        how = "hybrid" if hybrid else "vectors"
        print(f"{how}: {hits} of {len(sentences)} documents found first")


if __name__ == "__main__":
    main()
