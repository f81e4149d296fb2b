"""`embed_corpus` and `load_corpus`: from rows to files to documents. Here since both need pyarrow."""

import datetime
import io
import json
import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from media_jobs.corpus import vectors
from media_jobs.corpus.embedding import Embedder
from media_jobs.models import ExternalId, MediaItem, StoredChunk
from providers.exceptions import ProviderThrottled
from tests.fakes import MINILM

pytestmark = pytest.mark.sqlite_only("files of texts")

MODEL = f"onnx:{MINILM}"
ROWS = [{"id": f"doc-{n}", "text": f"Text number {n}."} for n in range(10)]


@pytest.fixture(autouse=True)
def work_dir(settings, tmp_path):
    settings.MEDIA_JOBS = replace(settings.MEDIA_JOBS, work_dir=tmp_path / "jobs")


@pytest.fixture
def onnx(fakes, monkeypatch):
    """The fake that embeds, whose models a test may change at any time."""
    monkeypatch.setattr("providers.registry.LISTING_SECONDS", 0.0)
    return fakes["onnx"]


@pytest.fixture
def write(tmp_path):
    """Return a function that writes rows as JSON Lines and returns the file."""

    def as_lines(rows, name="corpus.jsonl"):
        path = tmp_path / "input" / name
        path.parent.mkdir(exist_ok=True)
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    return as_lines


@pytest.fixture
def output(tmp_path):
    return tmp_path / "output"


def embed(source, output, *options):
    out = io.StringIO()
    shards = () if "--shard-documents" in options else ("--shard-documents", "4")
    arguments = [str(source), str(output), "--model", MODEL, "--requests", "1"]
    call_command("embed_corpus", *arguments, *shards, *options, stdout=out)
    return out.getvalue()


def load(output, *options):
    out = io.StringIO()
    call_command("load_corpus", str(output), *options, stdout=out)
    return out.getvalue()


def read(output):
    return pq.read_table(output / "vectors").to_pylist()


def texts_asked(onnx):
    """Return the texts that were embedded, but for those that check the model."""
    return [text for call in onnx.calls for text in call if text.startswith("Text")]


def test_each_text_gets_the_vector_that_the_api_gives(write, output, onnx, post):
    said = embed(write(ROWS), output)
    rows = read(output)
    assert [row["id"] for row in rows] == [row["id"] for row in ROWS]
    assert "10 documents in 3 shards" in said
    assert "Complete: 10 documents, 10 chunks" in said
    answer = post({"input": [row["text"] for row in ROWS], "model": MODEL}).json()
    asked = np.array([one["embedding"] for one in answer["data"]])
    assert np.abs(np.array([row["vector"] for row in rows]) - asked).max() < 1e-6


def test_long_text_is_cut_as_a_job_cuts_it(write, output, tmp_path, onnx):
    text = "One two three four five six seven eight. " * 20
    cut = ("--chunk-size", "100", "--chunk-overlap", "20")
    embed(write([{"id": 7, "text": text}]), output, *cut)
    load(output)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "same.txt").write_text(text)
    quiet = {"stdout": io.StringIO(), "stderr": io.StringIO()}
    call_command("embed_folder", str(folder), *cut, "--model", MODEL, **quiet)
    by_id, by_job = (
        StoredChunk.objects.filter(media__title=title).order_by("index")
        for title in ("7", "same.txt")
    )
    assert len(by_job) > 5
    assert [place(one) for one in by_id] == [place(one) for one in by_job]
    kept = [[bytes(one.vector or b"") for one in chunks] for chunks in (by_id, by_job)]
    assert kept[0] == kept[1]
    assert all(kept[0])


def place(chunk):
    return chunk.index, chunk.start, chunk.end, chunk.text


def test_second_run_embeds_nothing(write, output, onnx):
    source = write(ROWS)
    embed(source, output)
    onnx.calls.clear()
    assert "3 of 3 shards are done already" in embed(source, output)
    assert texts_asked(onnx) == []


def test_interrupted_run_goes_on_with_the_shards_that_are_missing(
    write, output, onnx, monkeypatch
):
    source, real = write(ROWS), Embedder._answer

    def answer(self, texts):
        if "Text number 5." in texts:
            raise KeyboardInterrupt
        return real(self, texts)

    monkeypatch.setattr(Embedder, "_answer", answer)
    with pytest.raises(KeyboardInterrupt):
        embed(source, output)
    monkeypatch.undo()
    assert [path.name for path in (output / "vectors").iterdir()] == [
        "part-000000.parquet"
    ]
    onnx.calls.clear()
    embed(source, output)
    assert texts_asked(onnx) == [row["text"] for row in ROWS[4:]]
    assert [row["id"] for row in read(output)] == [row["id"] for row in ROWS]


def test_damaged_file_is_made_again(write, output, onnx):
    source = write(ROWS)
    embed(source, output)
    whole = (output / "vectors" / "part-000001.parquet").read_bytes()
    (output / "vectors" / "part-000001.parquet").write_bytes(whole[:500])
    assert "2 of 3 shards are done already" in embed(source, output)
    assert len(read(output)) == len(ROWS)


def test_parts_of_an_array_make_each_shard_once(write, output, onnx):
    source = write(ROWS)
    said = embed(source, output, "--shard", "1/2")
    assert "2 of 3 shards are missing yet" in said
    assert texts_asked(onnx) == [row["text"] for row in ROWS[4:8]]
    assert "Complete" in embed(source, output, "--shard", "0/2")
    assert sorted(texts_asked(onnx)) == sorted(row["text"] for row in ROWS)


@pytest.mark.parametrize("part", ["2/2", "1", "a/b", "0/0"])
def test_part_that_cannot_be_is_refused(write, output, onnx, part):
    with pytest.raises(CommandError, match="I/N with I from 0 to N-1"):
        embed(write(ROWS), output, "--shard", part)


def test_plan_alone_embeds_no_document(write, output, onnx):
    embed(write(ROWS), output, "--plan-only")
    assert texts_asked(onnx) == []
    assert json.loads((output / "manifest.json").read_text())["documents"] == 10


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--chunk-size", "500"], "chunk_size was 1000 and is 500"),
        (["--vectors", "int8"], "vectors was 'float32' and is 'int8'"),
        (["--text-field", "body"], "fields.text was 'text' and is 'body'"),
        (["--shard-documents", "5"], "shard_rows was 4 and is 5"),
        (["--metadata-fields", "a"], r"fields.metadata was \[\] and is \('a',\)"),
    ],
)
def test_other_settings_are_refused_by_name(write, output, onnx, options, named):
    source = write(ROWS)
    embed(source, output)
    with pytest.raises(CommandError, match=named):
        embed(source, output, *options)


def test_other_revision_of_the_model_is_refused(write, output, onnx):
    source = write(ROWS)
    embed(source, output)
    onnx.specs = tuple(replace(spec, revision="two") for spec in onnx.specs)
    with pytest.raises(CommandError, match="revision was '' and is 'two'"):
        embed(source, output)


def test_model_that_gives_other_vectors_here_is_refused(write, output, onnx):
    source = write(ROWS)
    embed(source, output)
    onnx.variant = "another "
    with pytest.raises(CommandError, match="least cosine of three check texts"):
        embed(source, output)


def test_changed_input_is_refused_and_a_copied_one_is_not(write, output, onnx):
    source = write(ROWS)
    embed(source, output)
    os.utime(source, (1, 1))
    embed(source, output)
    write([*ROWS[:-1], {"id": "doc-9", "text": "Text number 0."}])
    with pytest.raises(CommandError, match=r"The input changed .*corpus\.jsonl"):
        embed(source, output)


def test_input_that_changes_under_a_run_is_refused(write, output, onnx, monkeypatch):
    source = write(ROWS)
    embed(source, output, "--plan-only")
    stat = source.stat()
    write([*ROWS[:-1], {"id": "doc-9", "text": "Text number 0."}])
    os.utime(source, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    with pytest.raises(CommandError, match="changed since the output was begun"):
        embed(source, output)
    assert [row["id"] for row in read(output)] == [row["id"] for row in ROWS[:8]]


BAD = [
    ("{", "is not valid JSON"),
    ("[1]", "is not a JSON object"),
    ({"text": "Text."}, "id must be a string or a whole number"),
    ({"id": True, "text": "Text."}, "id must be a string or a whole number"),
    ({"id": " ", "text": "Text."}, "id must not be blank"),
    ({"id": "a"}, "text must be a string"),
    ({"id": "a", "text": " \n"}, "text must not be empty or blank"),
    ({"id": "a", "text": "a\0b"}, "text is binary"),
    ({"id": "a", "text": "Text.", "metadata": [1]}, "metadata must be a JSON object"),
    (
        {"id": "a", "text": "Text.", "metadata": {"a": "x" * 2**16}},
        "at most 65536 bytes",
    ),
    ({"id": "a", "text": "Text.", "title": 5}, "title must be a string"),
    ({"id": "doc-0", "text": "Text."}, r"id doc-0 is that of corpus.jsonl:1, too"),
]


@pytest.mark.parametrize(("row", "problem"), BAD)
def test_row_that_is_no_document_is_named_with_its_line(
    write, output, onnx, row, problem
):
    with pytest.raises(CommandError, match=rf"corpus\.jsonl:3: .*{problem}"):
        embed(write([ROWS[0], "", row, ROWS[1]]), output)
    assert not output.exists()


def test_rows_left_out_are_listed_and_no_other_is_lost(write, output, onnx):
    bad = [row for row, _ in BAD]
    no_tokens = {"id": "zero", "text": "\u200b"}
    said = embed(write([*ROWS, *bad, no_tokens]), output, "--skip-invalid")
    lists = sorted((output / "rejects").iterdir())
    listed = [
        json.loads(line) for path in lists for line in path.read_text().splitlines()
    ]
    assert [one["row"] for one in listed] == [*range(11, 12 + len(bad))]
    assert len(read(output)) + len(listed) == len(ROWS) + len(bad) + 1
    assert f"{len(bad) + 1} rows left out" in said


def test_text_without_tokens_is_refused_by_its_line(write, output, onnx):
    rows = [*ROWS[:2], {"id": "zero", "text": "\u200b"}]
    with pytest.raises(CommandError, match=r"corpus\.jsonl:3: text has nothing"):
        embed(write(rows), output)


def test_ids_are_compared_over_all_files(write, output, onnx):
    write(ROWS, "a.jsonl")
    folder = write(ROWS[5:6], "b.jsonl").parent
    with pytest.raises(
        CommandError, match=r"b\.jsonl:1: id doc-5 is that of a\.jsonl:6, too"
    ):
        embed(folder, output)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", "id,text", "neither .jsonl nor .parquet"),
        ("a.jsonl", "", "holds no documents"),
        ("a.jsonl", '\n [{"id": 1}]', "holds a JSON array"),
        ("a.parquet", "PAR", "not a whole Parquet file"),
    ],
)
def test_file_that_is_no_corpus_is_refused(
    tmp_path, output, onnx, name, content, problem
):
    (tmp_path / name).write_text(content)
    with pytest.raises(CommandError, match=problem):
        embed(tmp_path / name, output)


def test_parquet_is_read_across_its_row_groups(tmp_path, output, onnx):
    days = [datetime.date(2026, 1, n + 1) for n in range(10)]
    table = pa.table(
        {
            "key": pa.array(range(10), pa.int64()),
            "body": [row["text"] for row in ROWS],
            "day": days,
            "other": [1.0] * 10,
        }
    )
    pq.write_table(table, tmp_path / "corpus.parquet", row_group_size=3)
    names = ["--id-field", "key", "--text-field", "body", "--metadata-fields", "day"]
    said = embed(tmp_path / "corpus.parquet", output, *names)
    assert "Fields left out: other" in said
    assert texts_asked(onnx) == [row["text"] for row in ROWS]
    load(output)
    item = MediaItem.objects.get(external__name="9")
    assert item.metadata == {"day": "2026-01-10"}


@pytest.mark.parametrize(
    ("encoding", "least"), [("float16", 0.999999), ("int8", 0.9999)]
)
def test_smaller_vectors_are_near_the_whole_ones(
    write, tmp_path, onnx, encoding, least
):
    source = write(ROWS)
    embed(source, tmp_path / "whole")
    embed(source, tmp_path / "small", "--vectors", encoding)
    whole, small = (
        vectors.read(
            pq.read_table(tmp_path / name / "vectors").combine_chunks().to_batches()[0]
        )
        for name in ("whole", "small")
    )
    cosines = (whole * small).sum(axis=1) / np.linalg.norm(small, axis=1)
    assert cosines.min() >= least


def test_zero_vector_stays_zero_as_int8():
    columns = vectors.columns(np.zeros((1, 4), np.float32), "int8")
    assert columns["scale"].to_pylist() == [0.0]
    assert columns["vector"].to_pylist() == [[0, 0, 0, 0]]


def test_throttled_provider_is_waited_for(write, output, onnx, monkeypatch):
    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        onnx.fault = None

    source = write(ROWS)
    embed(source, output, "--plan-only")
    onnx.fault = ProviderThrottled("Too many.", retry_after_seconds=42)
    monkeypatch.setattr(Embedder, "sleep", staticmethod(sleep))
    embed(source, output)
    assert pauses == [42]
    assert len(read(output)) == len(ROWS)


def test_model_that_changes_while_it_embeds_stops_the_run(
    write, output, onnx, monkeypatch
):
    real = Embedder._answer

    def answer(self, texts):
        if "Text number 4." in texts:
            onnx.specs = tuple(replace(spec, revision="two") for spec in onnx.specs)
        return real(self, texts)

    monkeypatch.setattr(Embedder, "_answer", answer)
    with pytest.raises(CommandError, match="its revision was '' and is 'two'"):
        embed(write(ROWS), output)
    assert len(read(output)) == 4


@pytest.mark.parametrize(
    ("package", "options"), [("pyarrow", []), ("ray", ["--engine", "ray"])]
)
def test_extra_that_is_not_installed_is_named(
    write, output, monkeypatch, package, options
):
    monkeypatch.setattr(
        "media_jobs.corpus.command.find_spec",
        lambda name: None if name == package else name,
    )
    with pytest.raises(
        CommandError, match=r"pip install 'embeddings-server\[(corpus|ray)\]'"
    ):
        embed(write(ROWS), output, *options)


def test_loaded_documents_are_like_any_other(write, output, onnx, client):
    rows = [
        {**ROWS[0], "title": "On nought", "language": "en", "metadata": {"shelf": 1}}
    ]
    embed(write([*rows, *ROWS[1:]]), output)
    assert "10 documents new" in load(output)
    query = {"query": "Text number 3.", "top_k": 1, "model": MODEL}
    found = client.post("/api/v1/media/embeddings/search", query, format="json").json()
    hit = found["results"][0]
    assert hit["score"] == pytest.approx(1)
    listed = client.get("/api/v1/media?limit=100").json()
    assert listed["pagination"]["total"] == 10
    item = MediaItem.objects.get(external__name="doc-0")
    shown = client.get(f"/api/v1/media/{item.pk}").json()
    assert (shown["title"], shown["language"], shown["metadata"]) == (
        "On nought",
        "en",
        {"shelf": 1},
    )
    assert shown["content"] == "Text number 0."
    assert not item.is_stale


def test_loading_again_changes_nothing(write, output, onnx):
    embed(write(ROWS), output)
    load(output)
    before = list(StoredChunk.objects.values_list("pk", "media_id"))
    assert "0 documents new, 0 changed, 10 the same" in load(output)
    assert list(StoredChunk.objects.values_list("pk", "media_id")) == before


def test_interrupted_load_goes_on(write, output, onnx, monkeypatch):
    embed(write(ROWS), output)
    monkeypatch.setattr("media_jobs.corpus.loading.BATCH_DOCUMENTS", 3)
    with monkeypatch.context() as patch:
        patch.setattr("media_jobs.corpus.loading.check_store", _interrupting_third())
        with pytest.raises(KeyboardInterrupt):
            load(output)
    assert MediaItem.objects.count() == StoredChunk.objects.count() == 4
    assert "6 documents new, 0 changed, 4 the same" in load(output)


def _interrupting_third():
    calls = []

    def check(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt

    return check


def test_newer_output_changes_what_differs(write, tmp_path, onnx):
    embed(write(ROWS), tmp_path / "old")
    load(tmp_path / "old")
    newer = [
        *ROWS[:9],
        {"id": "doc-9", "text": "Another text."},
        {"id": "doc-10", "text": "New."},
    ]
    embed(write(newer, "newer.jsonl"), tmp_path / "new")
    assert "1 documents new, 1 changed, 9 the same" in load(tmp_path / "new")
    item = MediaItem.objects.get(external__name="doc-9")
    assert item.content == "Another text."
    assert StoredChunk.objects.get(media=item).text == "Another text."
    assert MediaItem.objects.count() == 11


def test_each_owner_has_documents_of_its_own(write, output, onnx):
    User.objects.create_user("ada")
    embed(write(ROWS), output)
    load(output)
    assert "10 documents new" in load(output, "--owner", "ada")
    assert ExternalId.objects.count() == 20
    MediaItem.objects.filter(owner=None).delete()
    assert ExternalId.objects.count() == 10


def test_quota_of_the_owner_is_kept(write, output, onnx, settings):
    settings.MEDIA_JOBS = replace(settings.MEDIA_JOBS, max_documents=5)
    User.objects.create_user("ada")
    embed(write(ROWS), output)
    with pytest.raises(CommandError, match="quota of 5 documents"):
        load(output, "--owner", "ada")
    assert MediaItem.objects.count() == 4


def test_output_of_another_revision_is_refused_with_both_named(write, output, onnx):
    embed(write(ROWS), output)
    onnx.specs = tuple(replace(spec, revision="two") for spec in onnx.specs)
    with pytest.raises(CommandError, match=r"another revision .* '' there, 'two' here"):
        load(output)
    assert not MediaItem.objects.exists()


def test_output_of_another_space_is_refused_with_both_named(write, output, onnx):
    embed(write(ROWS), output)
    onnx.specs = tuple(replace(spec, vector_space="other") for spec in onnx.specs)
    with pytest.raises(
        CommandError, match=r"another vector space .* there, 'other' here"
    ):
        load(output)


def test_output_whose_model_gives_other_vectors_here_is_refused(write, output, onnx):
    embed(write(ROWS), output)
    onnx.variant = "another "
    with pytest.raises(CommandError, match="least cosine of three check texts"):
        load(output)


def test_unfinished_output_is_refused(write, output, onnx):
    embed(write(ROWS), output, "--shard", "0/3")
    with pytest.raises(CommandError, match="2 of 3 shards are missing"):
        load(output)


def test_output_without_texts_is_refused(write, output, onnx):
    embed(write(ROWS), output, "--no-texts")
    assert {*read(output)[0]} == {"id", "chunk", "start", "end", "vector"}
    with pytest.raises(CommandError, match="embed the corpus again without --no-texts"):
        load(output)


def test_folder_that_is_no_output_is_refused(tmp_path, onnx):
    with pytest.raises(CommandError, match="is no output of embed_corpus"):
        load(tmp_path)


def test_output_inside_the_input_is_refused(write, onnx):
    folder = write(ROWS).parent
    with pytest.raises(CommandError, match="OUTPUT lies in INPUT"):
        embed(folder, folder / "output")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is not JSON"),
        ("[]", "not a manifest of this version"),
        ('{"version": 1, "settings": {}}', "was edited"),
    ],
)
def test_manifest_that_cannot_be_read_is_refused(write, output, onnx, content, problem):
    output.mkdir()
    (output / "manifest.json").write_text(content)
    with pytest.raises(CommandError, match=problem):
        embed(write(ROWS), output)


def test_two_runs_at_once_leave_one_file_a_shard(write, output, onnx, monkeypatch):
    source, real = write(ROWS), Embedder._answer
    nested = []

    def answer(self, texts):
        if "Text number 5." in texts and not nested:
            nested.append("")
            nested[0] = embed(source, output)
        return real(self, texts)

    monkeypatch.setattr(Embedder, "_answer", answer)
    assert "Complete: 10 documents" in embed(source, output)
    assert "Complete: 10 documents" in nested[0]
    assert len([*(output / "vectors").iterdir()]) == 3
    assert [row["id"] for row in read(output)] == [row["id"] for row in ROWS]


def test_remote_model_that_drifts_meanwhile_finishes_no_shard(
    write, output, fakes, settings, monkeypatch
):
    remote, real = fakes["openai"], Embedder._answer
    remote.problem, settings.EMBEDDINGS_CANARY = None, True

    def answer(self, texts):
        if "Text number 4." in texts:
            remote.variant = "another "
        return real(self, texts)

    monkeypatch.setattr(Embedder, "_answer", answer)
    with pytest.raises(CommandError, match="no longer gives the vectors"):
        embed(write(ROWS), output, "--model", "openai:text-embedding-3-small")
    assert [row["id"] for row in read(output)] == [row["id"] for row in ROWS[:4]]
