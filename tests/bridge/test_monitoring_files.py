"""The alert rules, the dashboard and the runbooks fit one another and the metrics.

An expression that names a metric which nobody exports never fires, and nobody notices.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import promql_parser
import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from bridge.breaker import BreakerState
from bridge.broker.trespass import Deed
from bridge.commands import CommandState
from bridge.figures import Figures
from bridge.workspace import LetterKind
from certs.fleet import FleetDirectory
from tests.bridge.running import running_bridge
from tests.bridge.scraping import scraped
from tests.bridge.test_metrics import settings_of
from tools.broker_watch import TrespassFigures

ROOT: Final = Path(__file__).parents[2]
OPERATIONS: Final = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
RULES: Final[list[dict[str, Any]]] = [
    rule
    for group in yaml.safe_load(
        (ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8")
    )["groups"]
    for rule in group["rules"]
]
DASHBOARD: Final[dict[str, Any]] = json.loads(
    (ROOT / "deploy/grafana/dashboard.json").read_text(encoding="utf-8")
)

OF_PROMETHEUS: Final = {"job", "instance", "namespace", "pod"}
"""Labels that Prometheus adds to whatever it reads."""

VALUES: Final = {
    ("freefloat_commands_total", "state"): {state.value for state in CommandState},
    ("freefloat_sink_breaker", "state"): {state.value for state in BreakerState},
    ("freefloat_dead_letters", "kind"): {kind.value for kind in LetterKind},
    ("freefloat_broker_trespasses_total", "deed"): {deed.value for deed in Deed},
    ("freefloat_alarm", "name"): {"registry", "clock"},
}
"""What labels that an expression chooses by may be."""

METRIC: Final = re.compile(r"\b(?:freefloat|process)_[a-z_]+")

ADAPTER: Final = yaml.safe_load(
    yaml.safe_load((ROOT / "deploy/kubernetes/prometheus-adapter.yaml").read_text())[
        "data"
    ]["config.yaml"]
)
"""What the autoscaler is told (tests/deploy holds the two together)."""


def expressions() -> Iterator[str]:
    """Yield every expression, with what the adapter and Grafana put into them."""
    for asked in (*ADAPTER["rules"], *ADAPTER["externalRules"]):
        yield asked["seriesQuery"]
        series = METRIC.findall(asked["seriesQuery"])[0]
        yield (
            asked["metricsQuery"]
            .replace("<<.Series>>", series)
            .replace("<<.LabelMatchers>>", 'namespace="freefloat"')
        )
    yield from (rule["expr"] for rule in RULES)
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$__rate_interval", "5m")


def nodes_of(tree: promql_parser.Expr) -> list[promql_parser.Expr]:
    """Return a parsed expression and all that it consists of."""
    found: list[promql_parser.Expr] = []
    promql_parser.walk(tree, found.append)
    return found


def selectors_in(tree: promql_parser.Expr) -> list[promql_parser.VectorSelector]:
    found = nodes_of(tree)
    return [each for each in found if isinstance(each, promql_parser.VectorSelector)]


def grouped_by(node: promql_parser.Expr) -> set[str]:
    """Return the labels that an operator keeps or matches by."""
    if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
        return set(node.modifier.labels)
    if isinstance(node, promql_parser.BinaryExpr) and node.modifier:
        matching = node.modifier.matching
        return set(matching.labels if matching else ())
    return set()


def headings(section: str) -> list[str]:
    """Return the headings of the fourth level in a section of operations.md."""
    _, _, rest = OPERATIONS.partition(f"\n## {section}\n")
    text, _, _ = rest.partition("\n## ")
    return re.findall(r"^#### (.+)$", text, flags=re.MULTILINE)


Exported = dict[str, set[str]]
"""Name of a metric -> its labels."""


@pytest.fixture
async def exported(fleet: FleetDirectory, tmp_path: Path) -> Exported:
    """Return everything that a bridge with a sink, and the broker's watch, export."""
    settings = settings_of(fleet, tmp_path)
    async with running_bridge(fleet, tmp_path, settings=settings) as running:
        text, found = await scraped(running.bridge)
    # Prometheus makes this one of what it could read.
    labels: Exported = {"up": set()}
    for name, each in found:
        labels.setdefault(name, set()).update(dict(each))
    # A counter with labels has no sample before it has counted.
    counted = {
        name: set(collector._labelnames)
        for collector, names in Figures().registry._collector_to_names.items()
        if isinstance(collector, MetricWrapperBase)
        for name in names
    }
    text += generate_latest(TrespassFigures().registry).decode()
    counted["freefloat_broker_trespasses"] = {"deed"}
    for family in text_string_to_metric_families(text):
        ends = {
            "counter": ("_total",),
            "histogram": ("_bucket", "_count", "_sum"),
            "gauge": ("",),
        }.get(family.type, ())
        for end in ends:
            known = labels.setdefault(f"{family.name}{end}", set())
            known |= counted.get(family.name, set())
            if end == "_bucket":
                known.add("le")
    return labels


def test_every_expression_is_one_to_a_parser_that_others_wrote() -> None:
    wrong = {}
    for text in expressions():
        try:
            promql_parser.parse(text)
        except ValueError as error:
            wrong[text] = str(error)

    assert wrong == {}


@pytest.mark.broker
async def test_every_expression_uses_metrics_and_labels_that_are_exported(
    exported: Exported,
) -> None:
    used = set()
    for text in expressions():
        tree = promql_parser.parse(text)
        for selector in selectors_in(tree):
            name = selector.name or ""
            used.add(name)
            assert name in exported, text
            by = {matcher.name for matcher in selector.matchers.matchers}
            assert by <= exported[name] | OF_PROMETHEUS, text
        for node in nodes_of(tree):
            below = set[str]().union(
                *(exported[each.name or ""] for each in selectors_in(node))
            )
            assert grouped_by(node) <= below | OF_PROMETHEUS, text
    assert len(used) > 15


@pytest.mark.broker
async def test_every_metric_of_ours_is_explained_and_shown(exported: Exported) -> None:
    """A metric that nobody looks at is not worth its counting."""
    ours = {
        re.sub(r"_(bucket|count|sum)$", "", name)
        for name in exported
        if name.startswith("freefloat_") and not name.endswith("_created")
    }
    explained = set(METRIC.findall(OPERATIONS))
    shown = {
        re.sub(r"_bucket$", "", name)
        for text in expressions()
        for name in METRIC.findall(text)
    }

    assert ours - explained == set()
    assert ours - shown == set()
    assert len(ours) > 20


def test_selectors_choose_by_values_that_there_are() -> None:
    chosen_by = set()
    for text in expressions():
        for selector in selectors_in(promql_parser.parse(text)):
            for matcher in selector.matchers.matchers:
                known = VALUES.get((selector.name or "", matcher.name))
                if known is not None:
                    chosen_by.add(matcher.name)
                    assert set(matcher.value.split("|")) <= known, text
    assert chosen_by


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_leads_to_its_runbook(rule: dict[str, Any]) -> None:
    """Issue 5, point 8: a runbook for each alert."""
    name = rule["alert"]

    assert name in headings("14. Alerts")
    assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in {"page", "ticket"}


def test_every_runbook_has_its_alert_and_each_only_once() -> None:
    assert headings("14. Alerts") == [rule["alert"] for rule in RULES]


def test_panels_have_ids_places_and_a_data_source_of_their_own() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["targets"]


def test_counting_begins_at_zero_where_no_label_says_what_is_counted() -> None:
    """`increase` misses the first rise of a series that begins with it."""
    registry = Figures().registry

    assert registry.get_sample_value("freefloat_commit_failures_total") == 0
    assert registry.get_sample_value("freefloat_receipts_refused_total") == 0
