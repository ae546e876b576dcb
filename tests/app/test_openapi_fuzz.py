"""Requests drawn from the OpenAPI document, valid and not, against a real server: schemathesis does it.

    make fuzz                  # 300 examples an operation
    make fuzz EXAMPLES=1000 SEED=7

No answer may be a server error, nor a status, a type or a body that the document does not name.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.app.galleries import give_images
from tests.app.patched import add_interpolant, add_patch
from tests.app.world import World, add_ready_dataset, add_version, open_world, serve

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
)
# 504 is what a request that allows itself a millisecond deserves
CONFIGURATION = f"""
hooks = {json.dumps(str(Path(__file__).with_name("fuzz_hooks.py")))}
checks.not_a_server_error.expected-statuses = ["2XX", "3XX", "4XX", 504]
"""


_MANY_EXAMPLES = 50


def _phases(num_examples: int) -> str:
    """What `make fuzz` tries; a run of the tests leaves out the thousands of requests at the bounds of each schema."""
    return "examples,coverage,fuzzing,stateful" if num_examples >= _MANY_EXAMPLES else "examples,fuzzing,stateful"


def fill(world: World) -> None:
    """Things to find: ready data sets, versions, a finished patch with an interpolant, an alias."""
    for index in range(2):
        add_ready_dataset(world.services, ("cat", "dog"), ("a {}",), ("train", "test"))
        add_version(world.services, world.base, seed=index)
    add_interpolant(world, add_patch(world))
    client: TestClient = world.client
    for dataset in client.get("/v1/datasets").json()["items"]:
        give_images(world.services, dataset["id"])
    assert client.put("/v1/aliases/staging", json={"version": 2}).status_code in (200, 201)


@pytest.mark.timeout(7200)
def test_no_request_meets_a_server_error_or_an_undocumented_answer(
    tmp_path: Path, fuzz_examples: int, fuzz_seed: int
) -> None:
    with open_world(tmp_path, log_level="error") as world:
        fill(world)
        document = tmp_path / "openapi.json"
        document.write_text(json.dumps(world.client.app.openapi()), encoding="utf-8")  # type: ignore[attr-defined]
        configuration = tmp_path / "schemathesis.toml"
        configuration.write_text(CONFIGURATION, encoding="utf-8")
        with serve(world) as address:
            found = subprocess.run(
                [
                    *(str(Path(sys.executable).with_name("st")), "--config-file", str(configuration)),
                    *("run", str(document), "--url", address),
                    *("--checks", ",".join(CHECKS), "--max-examples", str(fuzz_examples), "--seed", str(fuzz_seed)),
                    # One worker: Python 3.11 counts the depth of `ast.parse` for all threads together, and hypothesis's
                    # callback in the collector lets another one in ("AST constructor recursion depth mismatch").
                    *("--phases", _phases(fuzz_examples), "--workers", "1", "--continue-on-failure"),
                    *("--request-timeout", "30", "--warnings", "off", "--no-color"),
                ],
                cwd=tmp_path,
                capture_output=True,
                text=True,
            )
    assert found.returncode == 0, found.stdout[-20_000:] + found.stderr[-5_000:]
