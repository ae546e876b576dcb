"""The distribution `paintbox-client`: the client and its command, without the server."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from docs.generate import build_stub, formatted
from tests.project.paths import ROOT

PROJECT = ROOT / "clients" / "python"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: builds leave files in the source tree."""
    copy = tmp_path_factory.mktemp("source")
    for part in ("clients/python/pyproject.toml", "clients/python/README.md"):
        (copy / part).parent.mkdir(parents=True, exist_ok=True)
        (copy / part).write_bytes((ROOT / part).read_bytes())
    (copy / "paintbox_client").symlink_to(ROOT / "paintbox_client")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", copy / "dist"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, copy / "clients" / "python"], check=True)
    return next((copy / "dist").glob("paintbox_client-*.whl"))


def test_the_wheel_holds_the_client_and_needs_three_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(each for each in names if each.endswith("METADATA"))).decode()
        commands = archive.read(next(each for each in names if each.endswith("entry_points.txt"))).decode()
    assert {each.partition("/")[0].partition("-")[0] for each in names} == {"paintbox_client"}
    sources = {each.relative_to(ROOT).as_posix() for each in (ROOT / "paintbox_client").rglob("*.py*")}
    assert {each for each in sources if "__pycache__" not in each} <= set(names)
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert [line.split()[1].partition(">")[0] for line in needed] == ["httpx2", "typer", "rich"]
    assert "paintbox = paintbox_client.cli:main" in commands
    assert wheel.stat().st_size < 1 << 20


def test_the_client_works_where_nothing_else_of_the_repository_can_be_imported(wheel: Path) -> None:
    refuse = """
import sys
sys.path.insert(0, sys.argv[1])
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        banned = {"torch", "numpy", "contract", "app", "registry", "pipeline", "worker", "paint_core",
                  "paintbox_launcher", "paintbox_demo"}
        if top in banned:
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)
sys.meta_path.insert(0, Refuse())
import paintbox_client
assert paintbox_client.__file__.startswith(sys.argv[1])
sys.argv = ["paintbox", "classify", "--help"]
from paintbox_client.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-I", "-c", refuse, wheel], capture_output=True, text=True, check=True)
    assert "--label" in done.stdout


def test_the_stub_of_the_asynchronous_client_is_up_to_date() -> None:
    written = (ROOT / "paintbox_client" / "async_client.pyi").read_text(encoding="utf-8")
    assert written == formatted(build_stub()), "run `make docs`"
