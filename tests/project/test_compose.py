"""docker-compose.yml follows the Compose specification and keeps what docs/operations.md promises."""

import copy
import json
import re
from importlib import resources
from typing import Any

import pytest
import yaml
from jsonschema.validators import validator_for

from tests.project.paths import ROOT
from tests.project.variables import settings_variables

TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(TEXT)
    return parsed


def _schema_errors(document: dict[str, Any]) -> list[str]:
    vendored = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(vendored.read_text(encoding="utf-8"))
    return [error.message for error in validator_for(schema)(schema).iter_errors(document)]


def test_the_file_follows_the_compose_specification(compose: dict[str, Any]) -> None:
    assert _schema_errors(compose) == []


@pytest.mark.parametrize(
    ("service", "key", "value"),
    [("api", "ports", "8321"), ("worker", "healthchek", {}), ("postgres", "restart", 3), ("valkey", "depends_on", 1)],
)
def test_a_planted_error_is_found(compose: dict[str, Any], service: str, key: str, value: object) -> None:
    broken = copy.deepcopy(compose)
    broken["services"][service][key] = value
    assert _schema_errors(broken) != []


def test_every_service_has_a_health_check_and_comes_back(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"valkey", "postgres", "api", "worker", "worker-gpu"}
    for service in compose["services"].values():
        assert service["healthcheck"]["test"]
        assert service["restart"] == "unless-stopped"
        assert service["cap_drop"] == ["ALL"]


def test_only_the_api_is_published_and_only_on_loopback(compose: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert set(published) == {"api"}
    assert all(port.startswith("127.0.0.1:") for port in published["api"])


def test_our_processes_wait_for_a_healthy_database_and_broker(compose: dict[str, Any]) -> None:
    for name in ("api", "worker", "worker-gpu"):
        waits = compose["services"][name]["depends_on"]
        assert {key: wait["condition"] for key, wait in waits.items()} == {
            "postgres": "service_healthy",
            "valkey": "service_healthy",
        }


def test_the_gpu_worker_starts_only_when_asked_for(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert [name for name, service in services.items() if service.get("profiles")] == ["worker-gpu"]
    devices = services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]


def test_secrets_come_from_outside_and_their_absence_stops_the_start() -> None:
    secrets = re.findall(r"\$\{(\w*(?:PASSWORD|KEY))([^}]*)\}", TEXT)
    assert {name for name, _ in secrets} == {"PAINTBOX_API_KEY", "POSTGRES_PASSWORD", "VALKEY_PASSWORD"}
    assert all(rest.startswith(":?") for _, rest in secrets)


@pytest.mark.skipif(not (ROOT / "app" / "settings.py").exists(), reason="app/settings.py is not there yet")
def test_every_variable_is_one_that_the_settings_know() -> None:
    assert set(re.findall(r"\bPAINTBOX_[A-Z_]+", TEXT)) <= settings_variables()
