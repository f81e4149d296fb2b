import pytest

from embeddings.services.cache.lru import MemoryRows


@pytest.fixture
def rows():
    """Three rows at most, of which two are there."""
    rows = MemoryRows(max_size=3)
    for key in (b"a", b"b"):
        rows.put(key, b"row", until=60)
    return rows


def test_only_what_was_used_since_the_last_time_is_reported(rows):
    assert sorted(rows.newly_used()) == [b"a", b"b"]
    assert rows.newly_used() == []
    rows.get(b"a", now=0)
    rows.put(b"c", b"row", until=60)
    assert sorted(rows.newly_used()) == [b"a", b"c"]
    rows.get_all([b"b"], now=0)
    assert rows.newly_used() == [b"b"]


def test_reporting_what_was_used_is_no_use_and_takes_no_memory(rows):
    rows.newly_used()
    rows.put(b"c", b"row", until=60)
    assert len(rows) == 3
    rows.put(b"d", b"row", until=60)
    assert len(rows) == 3
    assert rows.get(b"a", now=0) is None
    assert rows.get_all([b"b", b"c", b"d"], now=0) == [b"row"] * 3
