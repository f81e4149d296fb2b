"""The benchmark's texts."""

from benchmarks.corpus import bulk_texts, short_texts


def test_texts_are_the_same_at_every_call():
    assert bulk_texts(100) == bulk_texts(100)


def test_the_corpus_holds_2048_distinct_texts_of_many_lengths():
    texts = bulk_texts()

    lengths = sorted(len(text.split()) for text in texts)
    assert len(set(texts)) == 2048
    assert lengths[20] < 15 < 40 < lengths[1024] < 60 < 90 < lengths[-20]


def test_short_texts_of_different_starts_differ():
    assert not {*short_texts(50)} & {*short_texts(50, start=50)}
