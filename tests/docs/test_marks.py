"""Every code block of the documentation is run or parsed, or says why not."""

import configparser
import json
import re
import shutil
import subprocess

import pytest
import yaml

from contract.patch_request import PatchRequest
from tests.docs.blocks import Block, commands, documents, exists, read_blocks
from tests.project.paths import ROOT

BLOCKS = [block for page in documents() for block in read_blocks(page)]
MOST_NOT_RUN = 18
RUN = {"python", "bash"}
PARSED = {"json", "yaml", "ini", "js"}
NO_CODE = {"text"}
"""Outputs and listings."""


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages and not block.reason]


def test_every_block_has_a_language_and_what_is_not_run_has_a_reason() -> None:
    assert [str(block) for block in BLOCKS if not block.language] == []
    known = RUN | PARSED | NO_CODE
    assert [f"{block}: {block.language}" for block in BLOCKS if block.language not in known and block.runs_here] == []
    assert [str(block) for block in BLOCKS if block.reason and len(block.reason.split()) < 3] == []


def test_what_belongs_to_an_item_of_a_list_is_indented_by_four_spaces() -> None:
    """CommonMark takes fewer, the site does not."""
    pages = [path for path in (ROOT / "docs").rglob("*.md") if re.search(r"^ {1,3}```", path.read_text(), re.MULTILINE)]
    assert pages == []


def test_few_blocks_are_not_run() -> None:
    not_run = [f"{block}: {block.reason}" for block in BLOCKS if block.reason]
    assert len(not_run) <= MOST_NOT_RUN, not_run
    assert sum(block.runs_here and block.language in RUN for block in BLOCKS) > 2 * len(not_run)


def test_a_test_that_runs_a_block_exists() -> None:
    assert [f"{block}: {block.test}" for block in BLOCKS if block.test and not exists(block.test)] == []


def test_every_target_of_make_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    used = {
        command.split()[1]: str(block)
        for block in BLOCKS
        if block.language == "bash"
        for command in commands(block.code)
        if command.startswith("make ")
    }
    assert {name: place for name, place in used.items() if name not in targets} == {}


@pytest.mark.parametrize("block", of("json"), ids=str)
def test_json_is_json(block: Block) -> None:
    """A whole document, or on each line a document or a member of one."""
    try:
        json.loads(block.code)
    except json.JSONDecodeError:
        for line in block.code.splitlines():
            json.loads(line if line.startswith("{") else f"{{{line}}}")


def test_patch_requests_are_valid() -> None:
    """Whole requests, and members that a line shows alone."""
    rest = {"name": "a patch", "tasks": ["ds_digits"], "supported": ["ds_photos", "ds_icons"]}
    lines = [line for block in of("json") if block.page == "docs/patching.md" for line in block.code.splitlines()]
    members = [json.loads(line if line.startswith("{") else f"{{{line}}}") for line in lines]
    requests = [each for line, each in zip(lines, members, strict=True) if "tasks" in each or not line.startswith("{")]
    assert len(requests) > 8
    assert all(PatchRequest.model_validate(rest | each) for each in requests)


@pytest.mark.parametrize("block", of("yaml"), ids=str)
def test_yaml_is_yaml(block: Block) -> None:
    assert all(isinstance(each, dict) for each in yaml.safe_load_all(block.code))


@pytest.mark.parametrize("block", of("ini"), ids=str)
def test_an_ini_file_has_sections_or_variables(block: Block) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign] # names of systemd are case-sensitive
    text = block.code if re.search(r"^\[", block.code, re.MULTILINE) else f"[variables]\n{block.code}"
    parser.read_string(text)
    assert all(len(parser[section]) for section in parser.sections())


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js")
@pytest.mark.parametrize("block", of("js"), ids=str)
def test_a_script_can_be_parsed(block: Block) -> None:
    command = ["node", "--check", "--input-type=module", "-"]
    assert subprocess.run(command, input=block.code, text=True, capture_output=True, check=False).stderr == ""
