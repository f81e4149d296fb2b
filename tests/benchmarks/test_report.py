"""From figures to judgements, tables and drawings."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.fidelity import cosines, largest_difference, neighbour_overlap
from benchmarks.figures import Figures, percentile
from benchmarks.plot import PLOTS, bulk_speed
from benchmarks.report import BEGIN, END, Report, publish
from benchmarks.verdicts import verdicts

OVER_PEERS = "exact: bulk tokens/s over the best exact peer"


@pytest.fixture
def figures():
    """Two laps, the second on a machine half as fast."""
    measured = Figures()
    for speed in (1.0, 0.5):
        measured.add("exact", bulk_tokens_per_second=8000 * speed, errors=1)
        for name, tokens, cosine in (
            ("infinity_torch", 4000, 1.0),
            ("infinity_onnx", 5000, 1.0),
            ("fastapi", 7000, 0.99),
        ):
            measured.add(name, bulk_tokens_per_second=tokens * speed, cosine_min=cosine)
        measured.add("fp32_limit", tokens_per_second=10_000 * speed)
    return measured


@pytest.fixture
def report(figures):
    return Report(
        titles={"exact": "this server <exact>", "infinity_torch": "Infinity"},
        machine={"cores": "2"},
        conditions="Measured once.",
        figures=figures,
    )


def verdict(figures, aim, *, cores=2):
    return {one.aim: one for one in verdicts(figures, cores=cores)}[aim]


def test_a_ratio_is_taken_within_each_lap(figures):
    own = ("exact", "bulk_tokens_per_second")

    assert figures.ratio(own, ("fp32_limit", "tokens_per_second")) == 0.8


def test_exact_is_judged_against_the_fastest_peer_of_equal_fidelity(figures):
    judged = verdict(figures, OVER_PEERS)

    assert judged.value == 1.6
    assert judged.met is True


def test_an_aim_that_was_not_measured_is_neither_met_nor_missed(figures):
    assert verdict(figures, "MB of each further web process").met is None


def test_a_ratio_without_an_aim_is_neither_met_nor_missed(figures):
    figures.add("before_exact", bulk_tokens_per_second=4000)

    judged = verdict(figures, "exact: bulk tokens/s over 513a80f")

    assert judged.value == 2.0
    assert judged.met is None


def test_an_error_misses_an_aim(figures):
    assert verdict(figures, "errors of this server").met is False


def test_each_core_beyond_two_may_bring_a_web_process(figures):
    figures.add("default", memory_mb=500.0)
    aim = "MB of the whole server after bulk"

    assert verdict(figures, aim, cores=2).met is False
    assert verdict(figures, aim, cores=4).met is True


def test_a_high_percentile_of_few_values_is_the_largest():
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0


def test_a_saved_report_reads_back_the_same(report, tmp_path):
    report.save(tmp_path / "results.json")

    assert Report.load(tmp_path / "results.json").markdown() == report.markdown()


def test_a_table_has_no_column_that_nobody_was_measured_for(report):
    tables = report.markdown()

    assert "| tokens/s |" in tables
    assert "MB after bulk" not in tables
    assert "One short text" not in tables


def test_an_aim_is_printed_as_met_or_missed_with_its_figure(report):
    rows = [line for line in report.markdown().splitlines() if "| ≥" in line]

    assert any("the fp32 limit" in row and "| 0.8 " in row for row in rows)
    assert all("met" in row or "missed" in row for row in rows)


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
    assert bulk_speed(replace(report, figures=Figures())) == ""


def test_vectors_equal_but_for_their_length_are_faithful():
    vectors = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)

    assert cosines(vectors, 3 * vectors) == pytest.approx(1.0)
    assert neighbour_overlap(vectors, 3 * vectors) == 1.0
    assert largest_difference(vectors[:5], vectors) == 0.0


def test_unrelated_vectors_share_few_neighbours():
    one, other = np.random.default_rng(0).normal(size=(2, 200, 8))

    assert neighbour_overlap(one, other) < 0.2
