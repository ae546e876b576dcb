"""deploy/: Kubernetes objects fit their schemas, units can be loaded, and both know only settings that exist."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.project.paths import ROOT
from tests.project.promql import TARGET_LABELS, read_expression
from tests.project.variables import settings_variables

kubernetes_validate = pytest.importorskip("kubernetes_validate")

KUBERNETES = ROOT / "deploy" / "kubernetes"
SYSTEMD = ROOT / "deploy" / "systemd"
OURS = ("api", "worker", "migrate")
MAX_EXPOSURE = 2.0
"""Of `systemd-analyze security`, which calls up to 4 OK; 10 is no protection at all."""

Object = dict[str, Any]


def _objects(text: str) -> list[Object]:
    return [each for each in yaml.safe_load_all(text) if each]


def _files() -> list[Path]:
    paths = [*(KUBERNETES / "base").glob("*.yaml"), *(KUBERNETES / "components").rglob("*.yaml")]
    return sorted(path for path in paths if path.name != "kustomization.yaml")


def _check(thing: Object) -> None:
    """Raise `kubernetes_validate.ValidationError` if an object does not fit the schema of its kind, strictly."""
    kubernetes_validate.validate(thing, kubernetes_validate.latest_version(), strict=True)


def _build(folder: Path) -> list[Object]:
    """The objects of an overlay, as `kubectl apply -k` would send them."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=True)
    return _objects(done.stdout)


@pytest.fixture(scope="module")
def built() -> list[Object]:
    """The objects of the example overlay."""
    return _build(KUBERNETES / "example")


def _pods(objects: list[Object]) -> dict[str, Object]:
    """The pod templates by component."""
    templates = [each["spec"]["template"] for each in objects if each["kind"] in ("Deployment", "Job")]
    return {template["metadata"]["labels"]["app.kubernetes.io/component"]: template for template in templates}


@pytest.mark.parametrize("path", _files(), ids=lambda path: path.name)
def test_every_object_fits_the_schema_of_its_kind(path: Path) -> None:
    for thing in _objects(path.read_text(encoding="utf-8")):
        _check(thing)


@pytest.mark.parametrize(
    ("kind", "place", "value"),
    [
        ("Deployment", ("spec", "replicsa"), 2),
        ("Deployment", ("spec", "template", "spec", "containers", 0, "livenesProbe"), {}),
        ("Service", ("spec", "ports", 0, "port"), "http"),
        ("NetworkPolicy", ("spec", "egress", 0, "ports", 0, "protocol"), 6),
    ],
)
def test_a_planted_mistake_is_found(kind: str, place: tuple[str | int, ...], value: object) -> None:
    objects = [each for path in _files() for each in _objects(path.read_text(encoding="utf-8"))]
    thing = next(each for each in objects if each["kind"] == kind)
    inside: Any = thing
    for step in place[:-1]:
        inside = inside[step]
    inside[place[-1]] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        _check(thing)


def test_what_kustomize_builds_fits_the_schemas_and_selects_its_own_pods(built: list[Object]) -> None:
    for thing in built:
        _check(thing)
    pods = {name: pod["metadata"]["labels"] for name, pod in _pods(built).items()}
    assert set(pods) == set(OURS)
    selectors = {
        "Deployment": lambda spec: spec["selector"]["matchLabels"],
        "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
        "Service": lambda spec: spec["selector"],
        "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
    }
    for thing in built:
        if thing["kind"] in selectors:
            wanted = selectors[thing["kind"]](thing["spec"]).items()
            selected = {name for name, labels in pods.items() if wanted <= labels.items()}
            component = thing["metadata"]["labels"].get("app.kubernetes.io/component")
            assert selected == (
                {component} if component else set(OURS) if thing["metadata"]["name"] == "paintbox" else {"api"}
            )
    scaled = {thing["spec"]["scaleTargetRef"]["name"] for thing in built if thing["kind"] == "HorizontalPodAutoscaler"}
    assert scaled == {"paintbox-api", "paintbox-worker"}
    assert not any("replicas" in thing["spec"] for thing in built if thing["kind"] == "Deployment")


def test_the_overlay_gives_each_worker_a_gpu_and_names_image_bucket_and_bases(built: list[Object]) -> None:
    pods = _pods(built)
    containers = {name: pod["spec"]["containers"][0] for name, pod in pods.items()}
    assert containers["worker"]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert containers["worker"]["resources"]["limits"]["memory"] == "16Gi"
    devices = {name: {each["name"]: each["value"] for each in c.get("env", ())} for name, c in containers.items()}
    assert devices["worker"]["PAINTBOX_DEVICE"] == "cuda"
    assert devices["api"]["PAINTBOX_DEVICE"] == "cpu"
    assert {container["image"] for container in containers.values()} == {"registry.example.com/paintbox:0.1.0"}
    (config,) = [each["data"] for each in built if each["kind"] == "ConfigMap"]
    assert "ViT-B-32" in config["PAINTBOX_BASES"]
    assert config["PAINTBOX_DATA_DIR"] == "/data"


def test_all_components_fit_together(tmp_path: Path) -> None:
    base = os.path.relpath(KUBERNETES, tmp_path)
    components = [f"{base}/components/{path.name}" for path in sorted((KUBERNETES / "components").iterdir())]
    overlay = {"resources": [f"{base}/base"], "components": components}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    objects = _build(tmp_path)
    for thing in objects:
        _check(thing)
    api = _pods(objects)["api"]["spec"]
    (container,) = api["containers"]
    assert {"/data", "/tmp", "/uploads"} == {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"data", "tmp", "uploads"} == {volume["name"] for volume in api["volumes"]}
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert variables["PAINTBOX_UPLOAD_DIR"] == "/uploads"
    assert variables["PAINTBOX_DEVICE"] == "cuda"
    assert variables["PAINTBOX_HOST"] == "0.0.0.0"


def test_every_pod_is_restricted_and_only_the_api_gets_its_secrets() -> None:
    objects = [each for path in _files() for each in _objects(path.read_text(encoding="utf-8"))]
    for name, pod in _pods(objects).items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = spec["containers"]
        context = container["securityContext"]
        assert context == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {"/data", "/tmp"} <= mounts
        secrets = {each["secretRef"]["name"] for each in container["envFrom"] if "secretRef" in each}
        assert secrets == ({"paintbox-storage", "paintbox-api"} if name == "api" else {"paintbox-storage"})
    api = _pods(objects)["api"]["spec"]["containers"][0]
    assert api["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert api["readinessProbe"]["httpGet"]["path"] == api["startupProbe"]["httpGet"]["path"] == "/readyz"


def test_the_adapter_exports_the_metric_that_the_autoscaler_asks_for() -> None:
    (rule,) = yaml.safe_load((KUBERNETES / "prometheus-adapter-rules.yaml").read_text())["rules"]["external"]
    (scaler,) = _objects((KUBERNETES / "components" / "queue-scaling" / "autoscaler.yaml").read_text())
    asked = [metric["external"]["metric"]["name"] for metric in scaler["spec"]["metrics"]]
    assert asked == [rule["name"]["as"]]
    query = rule["metricsQuery"].replace("<<.LabelMatchers>>", 'namespace="paintbox"')
    reading = read_expression(query)
    assert reading.selected == {"paintbox_jobs": {"status", "namespace"}}
    assert reading.grouped <= TARGET_LABELS
    assert re.fullmatch(rule["name"]["matches"], "paintbox_jobs")


def test_only_settings_that_exist_are_set() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "deploy").rglob("*") if path.is_file()]
    used = {name for text in texts for name in re.findall(r"\bPAINTBOX_[A-Z_]+", text)}
    assert used <= settings_variables()


def test_commands_of_the_pods_and_units_exist() -> None:
    import tomllib

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["paintbox.commands"]
    objects = [each for path in _files() for each in _objects(path.read_text(encoding="utf-8"))]
    commands = [pod["spec"]["containers"][0]["command"] for pod in _pods(objects).values()]
    commands += [_setting(unit, "ExecStart").split()[0:3] for unit in _services()]
    for command in commands:
        program, first, *rest = [Path(command[0]).name, *command[1:]]
        if program == "paintbox":
            assert first in declared
        else:
            assert (program, first) == ("python", "-m")
            assert (ROOT / rest[0] / "__main__.py").exists()


def _services() -> list[Path]:
    return sorted(SYSTEMD.glob("*.service"))


def _setting(unit: Path, name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", unit.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return str(value)


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units, with programs that exist on this machine; systemd checks that they can be run."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    folder = tmp_path_factory.mktemp("units")
    for unit in SYSTEMD.iterdir():
        text = re.sub(r"^ExecStart=/opt/paintbox/bin/\w+", f"ExecStart={sys.executable}", unit.read_text(), flags=re.M)
        text = re.sub(r"^(User|Group)=paintbox$", r"\1=root", text, flags=re.M)
        (folder / unit.name).write_text(text)
    return folder


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True)


def test_systemd_finds_nothing_wrong_with_the_units(units: Path) -> None:
    names = [path.name.replace("@.", "@0.") for path in units.iterdir()]
    done = _analyze("verify", "--man=no", "--recursive-errors=no", *(str(units / name) for name in names))
    ours = [line for line in done.stderr.splitlines() if str(units) in line or "paintbox" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_a_planted_mistake_in_a_unit_is_found(units: Path, tmp_path: Path) -> None:
    broken = tmp_path / "paintbox-broken.service"
    broken.write_text((units / "paintbox.service").read_text().replace("ProtectSystem=strict", "ProtectSystem=very"))
    done = _analyze("verify", "--man=no", "--recursive-errors=no", str(broken))
    assert "Failed to parse protect system value" in done.stderr


@pytest.mark.parametrize("unit", _services(), ids=lambda unit: unit.name)
def test_a_unit_is_hardened(unit: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    done = _analyze("security", "--offline=true", "--no-pager", f"--threshold={int(10 * MAX_EXPOSURE)}", str(unit))
    if "Unknown" in done.stderr or "unrecognized" in done.stderr:
        pytest.skip("this systemd cannot analyse units offline")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert _setting(unit, "UMask") == "0077"


def test_workers_do_not_read_the_keys_of_the_api() -> None:
    assert "paintbox-api.env\n" in (SYSTEMD / "paintbox-api.service").read_text()
    worker = (SYSTEMD / "paintbox-worker@.service").read_text()
    assert "EnvironmentFile=-/etc/paintbox-api.env" not in worker
