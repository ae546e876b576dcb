"""docker-compose.yml follows the Compose specification and keeps what docs/operations.md promises."""

import copy
import json
import os
import re
import shutil
import subprocess
from importlib import resources
from typing import Any

import pytest
import yaml
from jsonschema.validators import validator_for

from tests.project.paths import ROOT
from tests.project.variables import settings_variables

TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
GPU_TEXT = (ROOT / "docker-compose.gpu.yml").read_text(encoding="utf-8")
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


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
    assert set(compose["services"]) == {"valkey", "postgres", "api", "worker"}
    for service in compose["services"].values():
        assert service["healthcheck"]["test"]
        assert service["restart"] == "unless-stopped"
        assert service["cap_drop"] == ["ALL"]


def test_every_service_is_limited_in_memory_processes_files_and_logs(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert service["mem_limit"]
        assert service["pids_limit"]
        assert service["ulimits"]["nofile"]["soft"] > 1024
        assert service["logging"]["options"]["max-size"]
        assert service["read_only"] is True


def test_every_image_that_is_not_built_here_is_named_by_digest(compose: dict[str, Any]) -> None:
    images = [service["image"] for service in compose["services"].values() if "build" not in service]
    images += re.findall(r"^ARG PYTHON_IMAGE=(.*)$", DOCKERFILE, flags=re.MULTILINE)
    assert len(images) == 3
    assert all(re.search(r"@sha256:[0-9a-f]{64}\}?$", image) for image in images)
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE)) == {"${PYTHON_IMAGE}"}


def test_the_image_installs_only_files_whose_hashes_are_known() -> None:
    installs = re.findall(r"pip install ([^\n&]*)", DOCKERFILE)
    assert all("--require-hashes" in install or "--no-deps --no-build-isolation ." in install for install in installs)


def test_only_the_api_is_published_and_only_on_loopback(compose: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert set(published) == {"api"}
    assert all(port.startswith("127.0.0.1:") for port in published["api"])


def test_our_processes_wait_for_a_healthy_database_and_broker(compose: dict[str, Any]) -> None:
    for name in ("api", "worker"):
        waits = compose["services"][name]["depends_on"]
        assert {key: wait["condition"] for key, wait in waits.items()} == {
            "postgres": "service_healthy",
            "valkey": "service_healthy",
        }


def test_the_gpu_file_follows_the_specification_and_gives_each_service_a_gpu_of_its_own(
    compose: dict[str, Any],
) -> None:
    gpu = yaml.safe_load(GPU_TEXT)
    assert _schema_errors(gpu) == []
    assert set(gpu["services"]) == {"api", "worker"}
    for service in gpu["services"].values():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia"
        assert len(device["device_ids"]) == 1
        assert service["environment"] == {"PAINTBOX_DEVICE": "cuda"}


def test_bases_and_a_bucket_are_chosen_in_the_env_file_alone(compose: dict[str, Any]) -> None:
    for name in ("api", "worker"):
        environment = compose["services"][name]["environment"]
        for variable in ("PAINTBOX_BASES", "PAINTBOX_BLOB_URL", "AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL"):
            assert environment[variable] is None  # Compose takes it from .env or the shell, or leaves it unset


def test_base_models_of_the_host_are_mounted_and_limits_come_from_the_env_file(compose: dict[str, Any]) -> None:
    for name, prefix in (("api", "API"), ("worker", "WORKER")):
        service = compose["services"][name]
        assert "${MODELS:-models}:/models:ro" in service["volumes"]
        assert f"${{{prefix}_MEMORY:-" in service["mem_limit"]
        assert service["cpus"] == f"${{{prefix}_CPUS:-0}}"
    assert {"data", "models"} <= set(compose["volumes"])
    for variable in ("PAINTBOX_SERVING_PRECISION", "PAINTBOX_MAX_BATCH_IMAGES"):
        assert compose["services"]["api"]["environment"][variable] is None
    for variable in ("PAINTBOX_DECODED_MEMORY_BYTES", "PAINTBOX_PATCH_LIMIT_SECONDS"):
        assert compose["services"]["worker"]["environment"][variable] is None


def _merged() -> dict[str, Any]:
    """The installation with GPUs and a real CLIP, as Compose itself reads both files."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    ):
        pytest.skip("docker compose is not installed")
    secrets = dict.fromkeys(("PAINTBOX_API_KEY", "POSTGRES_PASSWORD", "VALKEY_PASSWORD"), "x" * 32)
    chosen = {"PAINTBOX_BASES": '["ViT-B-32:laion2b_s34b_b79k"]', "WORKER_GPU": "1", "WORKER_MEMORY": "24g"}
    files = [part for name in ("docker-compose.yml", "docker-compose.gpu.yml") for part in ("-f", str(ROOT / name))]
    done = subprocess.run(
        ["docker", "compose", *files, "--env-file", "/dev/null", "config", "--format", "json"],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **secrets, **chosen},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    merged: dict[str, Any] = json.loads(done.stdout)
    return merged


def test_compose_merges_both_files_into_one_installation_with_a_clip_on_gpus() -> None:
    services = _merged()["services"]
    for name, gpu in (("api", "0"), ("worker", "1")):
        environment = services[name]["environment"]
        assert environment["PAINTBOX_DEVICE"] == "cuda"
        assert environment["PAINTBOX_BASES"] == '["ViT-B-32:laion2b_s34b_b79k"]'
        assert "HF_TOKEN" not in environment or environment["HF_TOKEN"] is None
        (device,) = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["device_ids"], device["capabilities"]) == ("nvidia", [gpu], ["gpu"])
    assert int(services["worker"]["mem_limit"]) == 24 << 30


def test_what_the_image_copies_is_sent_to_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    sent = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, flags=re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert "docs" in copied
    assert copied <= sent


def test_the_worker_is_not_given_the_keys_of_the_api(compose: dict[str, Any]) -> None:
    assert not {"PAINTBOX_API_KEY", "PAINTBOX_WEBHOOK_SECRET"} & set(compose["services"]["worker"]["environment"])


def test_no_password_is_on_a_command_line(compose: dict[str, Any]) -> None:
    commands = [str(service.get("command", "")) for service in compose["services"].values()]
    assert not any("${" in command for command in commands)


def test_the_example_names_every_secret_without_a_value_and_only_variables_that_are_used() -> None:
    named = dict(re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", EXAMPLE, flags=re.MULTILINE))
    assert {"PAINTBOX_API_KEY", "POSTGRES_PASSWORD", "VALKEY_PASSWORD"} <= set(named)
    assert named["PAINTBOX_API_KEY"] == named["POSTGRES_PASSWORD"] == named["VALKEY_PASSWORD"] == ""
    used = set(re.findall(r"\b[A-Z][A-Z_]+\b", TEXT + GPU_TEXT)) | {"COMPOSE_FILE"}
    assert set(named) <= used


def test_secrets_come_from_outside_and_their_absence_stops_the_start() -> None:
    secrets = re.findall(r"\$\{(\w*(?:PASSWORD|_KEY))\b([^}]*)\}", TEXT)
    assert {name for name, _ in secrets} == {"PAINTBOX_API_KEY", "POSTGRES_PASSWORD", "VALKEY_PASSWORD"}
    assert all(rest.startswith(":?") for _, rest in secrets)


@pytest.mark.skipif(not (ROOT / "app" / "settings.py").exists(), reason="app/settings.py is not there yet")
def test_every_variable_is_one_that_the_settings_know() -> None:
    assert set(re.findall(r"\bPAINTBOX_[A-Z_]+", TEXT + GPU_TEXT + EXAMPLE)) <= settings_variables()
