"""Every expression of the alert rules and the dashboard reads metrics and labels that the service really exports."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from registry.jobs import Jobs
from registry.patches import Patches
from tests.app.world import World, add_ready_dataset, add_version, open_world
from tests.builders import digit_pngs, small_report
from tests.project.paths import ROOT
from tests.project.promql import TARGET_LABELS, read_expression

pytest.importorskip("promql_parser")

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "paintbox.json"
METRICS = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
PROMETHEUS = {"up": set[str]()}
"""Metrics that Prometheus makes itself."""

ONLY_WITH_A_GPU = {"paintbox_device_memory_used_bytes": set[str](), "paintbox_device_memory_limit_bytes": set[str]()}
TEMPLATE = re.compile(r"\$labels\.\w+|\$value( \| (humanize|humanize1024|humanizeDuration|humanizePercentage))?")
"""What the annotations of a rule may contain: a label, or the value with a function of Prometheus."""

_ENDINGS = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}


@dataclass(frozen=True)
class Expression:
    """A PromQL expression and where it stands."""

    where: str
    text: str
    legend: str = ""


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return listed


def expressions() -> Iterator[Expression]:
    for rule in rules():
        legend = " ".join(rule["annotations"].values())
        yield Expression(rule["alert"], rule["expr"], " ".join(re.findall(r"\$labels\.(\w+)", legend)))
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    for panel in panels():
        for target in panel.get("targets", ()):
            legend = " ".join(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            yield Expression(panel["title"], _with_values(target["expr"]), legend)
    for note in dashboard["annotations"]["list"]:
        yield Expression(note["name"], _with_values(note["expr"]), "version")
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            query = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert query is not None
            yield Expression(variable["name"], _with_values(query[1]), query[2])


def _with_values(text: str) -> str:
    """An expression as Grafana sends it, with its variables replaced."""
    return text.replace("$__rate_interval", "1m").replace("$job", "paintbox").replace("$instance", ".*")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The labels of each series that a service which has done a bit of everything exports."""
    with open_world(tmp_path_factory.mktemp("monitored"), shadow_share=1.0, canary_share=0.0) as world:
        _keep_busy(world)
        text = world.client.get("/metrics").text
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for ending in _ENDINGS.get(family.type, ("",)):
            found.setdefault(family.name + ending, set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def _keep_busy(world: World) -> None:
    canary, _ = add_version(world.services, world.base, seed=1)
    shadow, _ = add_version(world.services, world.base, seed=2)
    for alias, version in (("canary", canary), ("shadow", shadow)):
        response = world.client.put(f"/v1/aliases/{alias}", json={"version": version})
        assert response.status_code in (200, 201), response.text
    world.services.follower.follow()
    deadline = time.monotonic() + 30
    while world.services.shadow.tally is None or world.services.shadow.tally.agreement is None:
        assert time.monotonic() < deadline
        files = [("images", ("0.png", digit_pngs(0)[0], "image/png"))]
        response = world.client.post("/v1/classify", data={"candidate_labels": ["zero", "one"]}, files=files)
        assert response.status_code == 200
        time.sleep(0.05)
    metrics = world.services.metrics
    metrics.count_refusal("active", "not_evaluated")
    metrics.count_webhook("delivered")
    metrics.count_kept_sample("sampled")
    metrics.count_dropped_sample("queue_full")
    world.client.app.state.connections.ended["idle"] += 1  # type: ignore[attr-defined]
    _end_a_patch(world)


def _end_a_patch(world: World) -> None:
    task = add_ready_dataset(world.services, ["a", "b"], splits=("train", "validation", "test"))
    patch = world.client.post("/v1/patches", json={"name": "p", "tasks": [task]}).json()["patch"]
    with world.services.database.write() as session:
        lease = Jobs(session).lease(patch["job_id"], "a test")
        assert lease is not None
        report = small_report(timings_seconds={"finetune": 61.0})
        Patches(session).complete(patch["id"], version_id=1, report=report)
        Jobs(session).succeed(lease)


def test_there_are_expressions_to_check() -> None:
    assert len(list(expressions())) > 60


@pytest.mark.parametrize("expression", list(expressions()), ids=lambda each: each.where)
def test_an_expression_reads_what_is_exported(expression: Expression, exported: dict[str, set[str]]) -> None:
    known = exported | PROMETHEUS | ONLY_WITH_A_GPU
    reading = read_expression(expression.text)
    assert reading.selected
    for name, labels in reading.selected.items():
        assert name in known, f"{name} is not exported"
        assert labels - TARGET_LABELS <= known[name], f"{name} has the labels {sorted(known[name])}"
    there = set().union(*(known[name] for name in reading.selected)) | TARGET_LABELS
    assert reading.grouped <= there
    assert set(expression.legend.split()) <= (reading.grouped or there)


@pytest.mark.parametrize(
    ("text", "is_wrong"),
    [
        ('sum(rate(paintbox_http_requests_total{code="200"}[5m]))', True),
        ("sum by (model) (paintbox_jobs)", True),
        ("paintbox_job_queue", True),
        ('sum by (kind) (paintbox_jobs{status="queued"})', False),
    ],
)
def test_planted_mistakes_are_found(text: str, is_wrong: bool, exported: dict[str, set[str]]) -> None:
    try:
        test_an_expression_reads_what_is_exported(Expression("planted", text), exported)
    except AssertionError:
        assert is_wrong
    else:
        assert not is_wrong


def test_what_cannot_be_parsed_is_refused() -> None:
    with pytest.raises(ValueError, match="parenthesis"):
        read_expression("sum(rate(paintbox_jobs[5m])")


def test_every_metric_of_the_reference_is_used() -> None:
    documented = set(re.findall(r"^\| `(paintbox_[a-z_]+)", METRICS, flags=re.MULTILINE))
    texts = DASHBOARD.read_text(encoding="utf-8") + ALERTS.read_text(encoding="utf-8")
    used = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"paintbox_[a-z_]+", texts)}
    assert documented - used == set()


def test_the_rules_have_the_form_that_prometheus_reads() -> None:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    assert len({group["name"] for group in groups}) == len(groups)
    for group in groups:
        assert set(group) == {"name", "rules"}
    for rule in rules():
        assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "0s"))
        assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", rule["alert"])
        for text in rule["annotations"].values():
            for expression in re.findall(r"{{(.*?)}}", text):
                assert TEMPLATE.fullmatch(expression.strip()), expression


def test_each_rule_says_what_to_do_and_has_a_known_severity() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["action"].endswith(".")


def test_panels_do_not_overlap_and_have_names_of_their_own() -> None:
    boxes = [panel["gridPos"] for panel in panels()]
    taken = {
        (x, y)
        for box in boxes
        for x in range(box["x"], box["x"] + box["w"])
        for y in range(box["y"], box["y"] + box["h"])
    }
    assert len(taken) == sum(box["w"] * box["h"] for box in boxes)
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_the_example_scrapes_with_the_name_that_the_rules_use() -> None:
    example = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    assert [scrape["job_name"] for scrape in example["scrape_configs"]] == ["paintbox"]
    assert all((ALERTS.parent / name).exists() for name in example["rule_files"])
