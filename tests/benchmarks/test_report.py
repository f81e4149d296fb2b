"""From figures to judgements, tables and drawings."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.fidelity import cosines, largest_difference, neighbour_overlap
from benchmarks.figures import Figures, percentile
from benchmarks.plot import PLOTS, bulk_speed, memory_over_time
from benchmarks.report import BEGIN, END, Report, publish
from benchmarks.soak import growth
from benchmarks.verdicts import verdicts

PROMISE = "exact: bulk tokens/s over Infinity's best exact engine"


@pytest.fixture
def figures():
    """Two rounds, the second on a machine half as fast."""
    measured = Figures()
    for speed in (1.0, 0.5):
        measured.add("exact", bulk_tokens_per_second=8000 * speed, errors=1)
        measured.add("infinity_torch", bulk_tokens_per_second=4000 * speed)
        measured.add("infinity_onnx", bulk_tokens_per_second=5000 * speed)
        measured.add("fp32_limit", tokens_per_second=10_000 * speed)
    return measured


@pytest.fixture
def report(figures):
    return Report(
        titles={"exact": "this server <exact>", "infinity_torch": "Infinity"},
        machine={"cores": "2"},
        conditions="Measured once.",
        figures=figures,
        soak=((0.0, 250.0), (1.0, 260.0)),
    )


def verdict(figures, promise):
    return {one.promise: one for one in verdicts(figures)}[promise]


def test_a_ratio_is_taken_within_each_round(figures):
    own = ("exact", "bulk_tokens_per_second")

    assert figures.ratio(own, ("fp32_limit", "tokens_per_second")) == 0.8


def test_exact_is_judged_against_the_faster_of_the_peers_exact_engines(figures):
    judged = verdict(figures, PROMISE)

    assert judged.value == 1.6
    assert judged.met is False


def test_a_promise_that_was_not_measured_is_neither_kept_nor_broken(figures):
    assert verdict(figures, "exact: cold start to the first vector, s").met is None


def test_an_error_breaks_a_promise(figures):
    assert verdict(figures, "errors of this server").met is False


def test_a_high_percentile_of_few_values_is_the_largest():
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0


def test_a_saved_report_reads_back_the_same(report, tmp_path):
    report.save(tmp_path / "results.json")

    assert Report.load(tmp_path / "results.json").markdown() == report.markdown()


def test_publishing_replaces_what_stands_between_the_markers_and_draws(
    report, tmp_path
):
    page = tmp_path / "performance.md"
    page.write_text(f"# Before\n{BEGIN}\nof last year\n{END}\nAfter\n")

    publish(report, page, PLOTS)

    text = page.read_text()
    assert text.startswith("# Before\n") and text.endswith("\nAfter\n")
    assert "last year" not in text
    assert "| this server <exact> | 6,000 " in text
    for name in PLOTS:
        assert f"({name})" in text
        ElementTree.parse(tmp_path / name)  # well-formed


def test_a_page_without_markers_is_left_alone(report, tmp_path):
    page = tmp_path / "performance.md"
    page.write_text("nothing to replace")

    with pytest.raises(ValueError, match="lacks"):
        publish(report, page, PLOTS)

    assert page.read_text() == "nothing to replace"


def test_nothing_is_drawn_of_nothing(report):
    nothing = replace(report, figures=Figures(), soak=())

    assert bulk_speed(nothing) == memory_over_time(nothing) == ""


def test_growth_compares_the_last_third_with_the_middle_one():
    warm_up, middle, last = [(0.0, 100.0)] * 3, [(1.0, 200.0)] * 3, [(2.0, 220.0)] * 3

    assert growth(warm_up + middle + last) == pytest.approx(0.1)


def test_vectors_equal_but_for_their_length_are_faithful():
    vectors = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)

    assert cosines(vectors, 3 * vectors) == pytest.approx(1.0)
    assert neighbour_overlap(vectors, 3 * vectors) == 1.0
    assert largest_difference(vectors[:5], vectors) == 0.0


def test_unrelated_vectors_share_few_neighbours():
    one, other = np.random.default_rng(0).normal(size=(2, 200, 8))

    assert neighbour_overlap(one, other) < 0.2
