import pytest
from rest_framework.test import APIClient

from embeddings.services.monitoring import percentile

INFINITE = float("inf")


@pytest.mark.parametrize(
    ("percent", "expected"), [(50, 1.0), (25, 0.5), (75, 1.5), (100, 2.0)]
)
def test_percentiles_lie_between_a_bucket_s_bounds(percent, expected):
    buckets = [(1.0, 10.0), (2.0, 20.0), (INFINITE, 20.0)]
    assert percentile(buckets, percent) == pytest.approx(expected)


def test_beyond_the_last_bound_it_is_that_bound():
    assert percentile([(1.0, 0.0), (INFINITE, 4.0)], 99) == 1.0


def test_nothing_observed_is_zero():
    assert percentile([(1.0, 0.0), (INFINITE, 0.0)], 50) == 0.0


def test_files_that_are_gone_are_503_with_the_reason(
    client, fakes, monkeypatch, tmp_path
):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "gone"))
    for answer in (
        APIClient().get("/metrics"),
        client.get("/api/v1/embeddings/metrics"),
    ):
        assert answer.status_code == 503
        assert "DATA_DIR" in answer.json()["detail"]
