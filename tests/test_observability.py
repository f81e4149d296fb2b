"""The table of metrics, the dashboard and the alerts name metrics and labels that the server has."""

import json
import re
from collections.abc import Iterator

import promql_parser
import pytest
import yaml
from prometheus_client import REGISTRY, Counter, Gauge, Histogram

from tests.pages import ROOT, code, read

GRAFANA = ROOT / "docs" / "grafana"
PAGE = "docs/observability.md"
# What Prometheus adds to each sample, and its own metric of a scrape.
ADDED = {"job", "instance"}
OF_SCRAPES = {"up": ADDED}
# A variable of Grafana's, and a value that it may have.
VARIABLES = {"[$__rate_interval]": "[1m]", "$job": "embeddings", "$instance": ".*"}


def own_metrics() -> dict[str, set[str]]:
    """Return the labels of each series, by its name."""
    found: dict[str, set[str]] = {}
    for collector in {*REGISTRY._collector_to_names}:
        if not isinstance(collector, Counter | Gauge | Histogram):
            continue
        name, labels = collector._name, {*collector._labelnames}
        if not name.startswith(("embedding_", "media_jobs_")):
            continue
        if isinstance(collector, Histogram):
            found[f"{name}_bucket"] = labels | {"le"}
            found |= {f"{name}_{part}": labels for part in ("sum", "count")}
        else:
            found[f"{name}_total" if isinstance(collector, Counter) else name] = labels
    return found


def dashboard() -> dict:
    board: dict = json.loads((GRAFANA / "dashboard.json").read_text())
    return board


def rules() -> list[dict]:
    groups = yaml.safe_load((GRAFANA / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> Iterator[tuple[str, str, str]]:
    """Yield where a query stands, the query, and what is written of its result."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for variable, value in VARIABLES.items():
                query = query.replace(variable, value)
            yield panel["title"], query, target["legendFormat"]
    for rule in rules():
        text = " ".join(rule["annotations"].values())
        yield rule["alert"], rule["expr"], text


class Names:
    """What a query names: series with the labels that it asks of each, and the labels of its result."""

    def __init__(self, query: str) -> None:
        self.series: list[tuple[str, set[str]]] = []
        self.grouped: list[set[str]] = []
        self._walk(promql_parser.parse(query), set())

    def _walk(self, node, kept: set[str]) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            asked = {one.name for one in node.matchers.matchers}
            self.series.append((node.name or "", asked | kept))
            return
        if isinstance(node, promql_parser.AggregateExpr):
            labels = {*node.modifier.labels} if node.modifier else set()
            self.grouped.append(labels)
            kept = kept | labels
        for part in ("vector_selector", "expr", "lhs", "rhs"):
            if (inner := getattr(node, part, None)) is not None:
                self._walk(inner, kept)
        for argument in getattr(node, "args", ()) or ():
            self._walk(argument, kept)


QUERIES = [*queries()]


@pytest.mark.parametrize(("place", "query", "text"), QUERIES, ids=lambda one: one[:40])
def test_a_query_names_series_and_labels_that_exist(place, query, text):
    known = own_metrics() | OF_SCRAPES
    named = Names(query)
    assert named.series, query
    for name, labels in named.series:
        assert name in known, f"{place}: {name}"
        assert labels <= known[name] | ADDED, f"{place}: {labels} of {name}"
    shown = {
        *re.findall(r"\{\{\s*(\w+)\s*\}\}", text),
        *re.findall(r"\$labels\.(\w+)", text),
    }
    for labels in named.grouped:
        assert shown <= labels, f"{place} shows {shown - labels}, which its sum drops"
    for name, _ in named.series:
        assert shown <= known[name] | ADDED, place


def test_what_is_counted_is_on_the_dashboard():
    shown = {
        name.removesuffix("_bucket")
        for _, query, _ in QUERIES
        for name, _ in Names(query).series
    }
    series = {re.sub("_(bucket|sum|count)$", "", name) for name in own_metrics()}
    assert series == shown - {"up"}


def test_the_table_lists_all_metrics_and_their_labels():
    rows = re.findall(r"^\| (`(?:embedding|media)_\S+`) \| (.*?) \|", read(PAGE), re.M)
    listed = {code(name)[0]: {*code(labels)} for name, labels in rows}
    series = own_metrics()
    plain = {
        re.sub("_bucket$", "", name): labels - {"le"}
        for name, labels in series.items()
        if not re.search("_(sum|count)$", name)
    }
    assert listed == plain


def test_panels_have_places_of_their_own_and_one_source():
    board = dashboard()
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in panels
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    sources = {panel["datasource"]["uid"] for panel in panels if "targets" in panel}
    assert sources == {"${datasource}"}
    (source,) = (v for v in board["templating"]["list"] if v["type"] == "datasource")
    assert (source["name"], source["query"]) == ("datasource", "prometheus")


def test_alerts_are_in_the_page_and_say_what_to_do():
    listed = re.findall(r"^\| `(Embeddings\w+)` \|", read(PAGE), re.M)
    assert listed == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert {*rule["annotations"]} == {"summary", "description"}
