"""The TypeScript client: its types are those of the OpenAPI document; where it is built, it classifies."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.builders import digit_pngs
from tests.paintbox_client.conftest import Served
from tests.project.paths import ROOT

PROJECT = ROOT / "clients" / "typescript"
BUILT = PROJECT / "dist" / "paintbox.js"


def test_its_types_have_the_paths_and_schemas_of_the_document() -> None:
    document = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    types = (PROJECT / "src" / "schema.d.ts").read_text(encoding="utf-8")
    paths = types.partition("export interface paths {")[2].partition("\n}\n")[0]
    assert set(re.findall(r'^    "(/[^"]*)": \{', paths, re.MULTILINE)) == set(document["paths"]), "npm run generate"
    schemas = types.partition("    schemas: {")[2].partition("\n    };\n")[0]
    found = re.findall(r'^        "?([\w-]+)"?: ', schemas, re.MULTILINE)
    assert set(found) == set(document["components"]["schemas"]), "npm run generate"


def test_versions_of_the_clients_are_the_same() -> None:
    version = json.loads((PROJECT / "package.json").read_text(encoding="utf-8"))["version"]
    for project in (ROOT / "pyproject.toml", ROOT / "clients" / "python" / "pyproject.toml"):
        assert f'\nversion = "{version}"\n' in project.read_text(encoding="utf-8")


@pytest.mark.skipif(not BUILT.exists() or shutil.which("node") is None, reason="make check-ts builds it, with Node.js")
def test_it_classifies_as_the_python_client_does(served: Served, tmp_path: Path) -> None:
    (tmp_path / "zero.png").write_bytes(digit_pngs(0)[0])
    labels = ["digit zero", "digit one", "taco"]
    command = ["node", str(PROJECT / "example" / "classify.mjs"), served.url, str(tmp_path / "zero.png"), *labels]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = served.client.classify(tmp_path / "zero.png", labels, top_k=1)
    assert done.stdout.strip() == f"{expected.version} {expected.results[0].predictions[0].label}"
