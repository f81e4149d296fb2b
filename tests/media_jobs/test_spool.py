"""The file of an unfinished job: whatever was killed or damaged, a row is its text's vector or it is not there."""

from dataclasses import replace

import numpy as np
import pytest

from media_jobs.services import spool as spool_module
from media_jobs.services.spool import Spool, SpoolBroken, discard
from media_jobs.services.targets import Identity
from tests.fakes import vector_of

SIZE = 3
TEXTS = ["one", "two", "three", "four", "five"]
IDENTITY = Identity(
    provider="onnx",
    model="small",
    revision="1",
    method="fp32",
    prompt="",
    vector_space="small",
    native_dimensions=None,
)


def vectors_of(texts):
    return np.stack([vector_of(text, SIZE) for text in texts])


@pytest.fixture
def opened(tmp_path):
    """Return a function that opens the job's file as a new run does."""
    return lambda: Spool(tmp_path, job_id="mej_1")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "mej_1-rows"


@pytest.fixture
def written(opened):
    """The file with a row of each text, in two batches."""
    spool = opened()
    spool.begin(IDENTITY, SIZE)
    spool.append(TEXTS[:2], vectors_of(TEXTS[:2]))
    spool.append(TEXTS[2:], vectors_of(TEXTS[2:]))
    return spool


def read(spool, texts):
    return [vector.tolist() for vector in spool.vectors(texts)]


def test_next_run_finds_the_rows_and_who_made_them(written, opened):
    spool = opened()
    assert (spool.identity, spool.dimensions) == (IDENTITY, SIZE)
    spool.keep(TEXTS)
    assert len(spool) == 5
    assert read(spool, TEXTS) == vectors_of(TEXTS).tolist()


def test_file_cut_off_at_any_byte_keeps_whole_rows_and_can_be_gone_on_with(
    written, opened, file
):
    whole = file.read_bytes()
    kept = set()
    for length in range(len(whole) + 1):
        file.write_bytes(whole[:length])
        spool = opened()
        found = len(spool)
        spool.keep(TEXTS)
        assert len(spool) == found
        kept.add(found)
        if spool.identity is None:
            spool.begin(IDENTITY, SIZE)
        rest = TEXTS[len(spool) :]
        if rest:
            spool.append(rest, vectors_of(rest))
        assert read(spool, TEXTS) == vectors_of(TEXTS).tolist()
        assert file.read_bytes() == whole
    assert kept == {0, 1, 2, 3, 4, 5}


def test_rows_of_other_texts_are_cut_off(written, opened, file):
    spool = opened()
    spool.keep(["one", "two", "other", "four", "five", "six"])
    assert len(spool) == 2
    spool.append(["other"], vectors_of(["other"]))
    assert read(spool, ["one", "two", "other"]) == (
        vectors_of(["one", "two", "other"]).tolist()
    )
    assert len(opened()) == 3


def test_nothing_kept_forgets_who_made_it(written, opened, file):
    spool = opened()
    spool.keep(["other"])
    assert (spool.identity, spool.dimensions, len(spool)) == (None, None, 0)
    assert not file.exists()


def test_damaged_vector_is_no_vector(written, opened, file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(SpoolBroken):
        read(written, TEXTS)
    spool = opened()
    spool.keep(TEXTS)
    assert len(spool) == 4


def test_row_of_another_text_is_not_given(written):
    with pytest.raises(SpoolBroken):
        read(written, ["one", "two", "three", "five", "four"])


def test_missing_row_is_not_made_up(written):
    with pytest.raises(SpoolBroken):
        read(written, [*TEXTS, "six"])


def test_run_that_was_overtaken_moves_no_rows(written, opened):
    overtaken, new = opened(), opened()
    for spool in (new, overtaken):
        spool.keep(TEXTS[:2])
    overtaken.append(["three"], vectors_of(["three"]))
    new.append(["three"], vectors_of(["three"]))
    overtaken.append(["four"], vectors_of(["four"]))
    new.append(["four"], vectors_of(["four"]))
    assert read(new, TEXTS[:4]) == vectors_of(TEXTS[:4]).tolist()


def test_rows_of_another_identity_are_not_taken_for_ones_own(written, opened):
    overtaken = opened()
    new = opened()
    new.begin(replace(IDENTITY, revision="2"), SIZE)
    new.append(TEXTS, vectors_of(TEXTS))
    with pytest.raises(SpoolBroken):
        read(overtaken, TEXTS)


def test_begin_leaves_nothing_of_what_was_there(written, opened):
    written.begin(replace(IDENTITY, revision="2"), 2)
    assert (len(written), len(opened())) == (0, 0)
    assert opened().dimensions == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 500,
        b'{"identity": {"provider": "onnx"}, "dimensions": 3}\n',
        b"7\n",
    ],
)
def test_file_of_another_make_is_not_read(opened, file, content):
    file.write_bytes(content)
    assert (opened().identity, len(opened())) == (None, 0)


def test_long_files_are_read_block_by_block(written, monkeypatch):
    monkeypatch.setattr(spool_module, "BLOCK_ROWS", 2)
    assert read(written, TEXTS) == vectors_of(TEXTS).tolist()


def test_discard_takes_all_of_one_job_and_nothing_of_others(written, tmp_path):
    Spool(tmp_path, job_id="mej_12").begin(IDENTITY, SIZE)
    (tmp_path / "mej_1-older-8.f32").touch()
    discard(tmp_path, "mej_1")
    assert [path.name for path in tmp_path.iterdir()] == ["mej_12-rows"]
