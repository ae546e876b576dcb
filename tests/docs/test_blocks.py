"""The blocks of each page run in order against a service of their own, with a worker, in a folder of images.

Two things are made smaller, because they take minutes: `paintbox patch` without a method runs as `--method instant`,
and of the bundled samples only a few classes are there, from the beginning. Commands find the service by the
environment, as users may; addresses in the text are those of the default.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from paintbox_client.client import Client
from tests.app.test_keys import BOOTSTRAP
from tests.app.world import open_world, serve
from tests.docs.blocks import Block, commands, documents, read_blocks
from tests.docs.fixtures import PREPARE, Prepare, Presumed, write_folder
from tests.paintbox_client.inside import run
from tests.project.paths import ROOT
from tests.support.forking import Forks
from tests.support.working import working

ELSEWHERE = {"docs/library.md"}
"""Pages with tests of their own: tests/paint_core/test_library.py."""

WITH_KEYS = {"docs/operations.md", "docs/explanation/privacy.md", "docs/how-to/browser.md"}
DEFAULT_URL = "127.0.0.1:8321"
MAY_REFUSE = {"check": 1}
"""Commands whose exit status tells what they found."""

PAGES = [
    page
    for page in documents()
    if page not in ELSEWHERE
    and any(block.runs_here and block.language in ("python", "bash") for block in read_blocks(page))
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the blocks of a page run."""
    place = tmp_path / "work"
    write_folder(place)
    monkeypatch.chdir(place)
    return place


Stock = Callable[[Prepare], Path]


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Stock:
    """Returns the folder of a stopped service that has what some pages presume; each is made once and copied."""

    @cache
    def make(prepare: Prepare) -> Path:
        place = tmp_path_factory.mktemp("stock")
        write_folder(place / "work")
        with (
            open_world(place / "service") as world,
            serve(world) as address,
            working(world, forks),
            Client(address) as client,
        ):
            prepare(Presumed(client, place / "work"))
        return place / "service"

    return make


@pytest.fixture
def url(page: str, folder: Path, stock: Stock, forks: Forks, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A service that has what the page presumes, in the environment of what runs."""
    service = folder.parent / "service"
    if page in PREPARE:
        shutil.copytree(stock(PREPARE[page]), service)
    settings: dict[str, Any] = {"api_key": BOOTSTRAP} if page in WITH_KEYS else {}
    with open_world(service, **settings) as world, serve(world) as address, working(world, forks):
        monkeypatch.setenv("PAINTBOX_URL", address)
        if settings:
            monkeypatch.setenv("PAINTBOX_API_KEY", BOOTSTRAP)
        yield address


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(page: str, url: str) -> None:
    names: dict[str, Any] = {}
    for block in read_blocks(page):
        if not block.runs_here:
            continue
        if block.language == "python":
            exec(compile(block.code.replace(DEFAULT_URL, url.removeprefix("http://")), str(block), "exec"), names)
        elif block.language == "bash":
            for command in commands(block.code):
                run_command(command, block, url)


def run_command(command: str, block: Block, url: str) -> None:
    program, *arguments = shlex.split(command, comments=True)
    if program == "paintbox":
        run_paintbox(arguments, block)
    elif program == "curl":
        addressed = [each.replace(DEFAULT_URL, url.removeprefix("http://")) for each in arguments]
        done = subprocess.run(["curl", "--silent", "--show-error", "--fail-with-body", *addressed], capture_output=True)
        assert done.returncode == 0, (str(block), command, done.stdout, done.stderr)
    else:
        pytest.fail(f"{block}: {program} cannot be run here: give a reason by <!-- not run: … -->")


def _without(arguments: list[str], option: str) -> list[str]:
    """The arguments without an option and its value."""
    at = arguments.index(option) if option in arguments else len(arguments)
    return arguments[:at] + arguments[at + 2 :]


def run_paintbox(arguments: list[str], block: Block) -> None:
    if arguments[:2] == ["samples", "upload"]:
        arguments = ["datasets"]  # which the page's service has already
    if arguments[0] == "patch" and "--method" not in arguments:
        arguments = [*_without(arguments, "--anchors"), "--method", "instant"]  # it trains nothing
    variables = {name: os.environ[name] for name in ("PAINTBOX_URL", "PAINTBOX_API_KEY") if name in os.environ}
    done = run(*arguments, **variables)
    assert done.status in (0, MAY_REFUSE.get(arguments[0], 0)), (str(block), arguments, done.out, done.err)


def test_every_page_of_the_list_of_presumed_things_exists() -> None:
    assert [page for page in {*PREPARE, *ELSEWHERE, *WITH_KEYS} if not (ROOT / page).exists()] == []
