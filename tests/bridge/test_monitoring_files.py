"""The alert rules, the dashboard and the runbooks fit one another and the metrics.

An expression that names a metric which nobody exports never fires, and nobody notices.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from bridge.breaker import BreakerState
from bridge.commands import CommandState
from bridge.figures import Figures
from bridge.workspace import LetterKind
from certs.fleet import FleetDirectory
from tests.bridge.running import running_bridge
from tests.bridge.test_metrics import LABELS, scraped, settings_of

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
    ("freefloat_alarm", "name"): {"registry", "clock"},
}
"""What labels that an expression chooses by may be."""

METRIC: Final = re.compile(r"\b(?:freefloat|process)_[a-z_]+")
SELECTOR: Final = re.compile(r"(\w+)\{([^}]*)\}")
MATCHER: Final = re.compile(r'(\w+)(=~|=)"([^"]*)"')


ADAPTER: Final = yaml.safe_load(
    yaml.safe_load((ROOT / "deploy/kubernetes/prometheus-adapter.yaml").read_text())[
        "data"
    ]["config.yaml"]
)
"""What the autoscaler is told (tests/deploy holds the two together)."""


def expressions() -> Iterator[str]:
    for asked in (*ADAPTER["rules"], *ADAPTER["externalRules"]):
        yield asked["seriesQuery"]
        yield asked["metricsQuery"]
    yield from (rule["expr"] for rule in RULES)
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def headings(section: str) -> list[str]:
    """Return the headings of the fourth level in a section of operations.md."""
    _, _, rest = OPERATIONS.partition(f"\n## {section}\n")
    text, _, _ = rest.partition("\n## ")
    return re.findall(r"^#### (.+)$", text, flags=re.MULTILINE)


@pytest.fixture
async def exported(fleet: FleetDirectory, tmp_path: Path) -> set[str]:
    """Return the names of everything that a bridge with a sink exports."""
    settings = settings_of(fleet, tmp_path)
    async with running_bridge(fleet, tmp_path, settings=settings) as running:
        text, found = await scraped(running)
    # A counter with labels has no sample before it has counted.
    names = {name for name, _ in found}
    families = text_string_to_metric_families(text)
    for family in families:
        ends = {
            "counter": ("_total",),
            "histogram": ("_bucket", "_count", "_sum"),
            "gauge": ("",),
        }.get(family.type, ())
        names |= {f"{family.name}{end}" for end in ends}
    return names


@pytest.mark.broker
async def test_every_expression_uses_metrics_that_are_exported(
    exported: set[str],
) -> None:
    used = {name for text in expressions() for name in METRIC.findall(text)}

    assert used - exported == set()
    assert len(used) > 15


@pytest.mark.broker
async def test_every_metric_of_ours_is_explained_and_shown(exported: set[str]) -> None:
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


def test_selectors_choose_by_labels_and_values_that_there_are() -> None:
    for text in expressions():
        for name, matchers in SELECTOR.findall(text):
            for label, operator, value in MATCHER.findall(matchers):
                assert label in LABELS | OF_PROMETHEUS, text
                known = VALUES.get((name, label))
                if known is not None:
                    chosen = value.split("|") if operator == "=~" else [value]
                    assert set(chosen) <= known, text


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
