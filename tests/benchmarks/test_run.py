"""A run and its parts."""

import pytest

from benchmarks.corpora import in_requests
from benchmarks.run import Run
from benchmarks.workloads import QUICK


@pytest.fixture
def run(tmp_path):
    return Run(tables=["passthrough", "memory"], scale=QUICK, minilm=tmp_path)


def test_a_part_that_fails_keeps_no_other_from_being_measured(run, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("LiteLLM does not start")

    monkeypatch.setattr("benchmarks.run.measure_passthrough", fail)
    monkeypatch.setattr(
        Run, "_memory", lambda own: own.figures.add("default", cold_start_s=1.0)
    )

    assert run.measure() == ["passthrough"]
    assert run.figures.of("default", "cold_start_s") == [1.0]
    assert "LiteLLM does not start" in capsys.readouterr().err


def test_a_corpus_knows_the_tokens_of_each_of_its_requests():
    corpus = in_requests(["a", "b", "c"], [3, 4, 5], size=2)

    assert corpus.requests == [["a", "b"], ["c"]]
    assert corpus.tokens_of([0]) == 7
    assert corpus.tokens_of([0, 1]) == 12
