"""The documents point at things that exist, and the site and the help have all of them."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import yaml

from tests.project.paths import ROOT

DOCS = ROOT / "docs"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
LINK = re.compile(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def slugs(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub, the help and the site make them."""
    titles = re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_every_link_to_a_file_leads_somewhere() -> None:
    broken = []
    for document in DOCUMENTS:
        for path, anchor in LINK.findall(FENCED.sub("", document.read_text(encoding="utf-8"))):
            target = document.parent / path if path else document
            if not target.exists():
                broken.append(f"{document.relative_to(ROOT)}: {path}")
            elif anchor and anchor not in slugs(target.read_text(encoding="utf-8")):
                broken.append(f"{document.relative_to(ROOT)}: {path}#{anchor}")
    assert broken == []


def test_no_link_leaves_the_folder_that_the_site_is_made_of() -> None:
    outside = [
        f"{document.relative_to(ROOT)}: {path}"
        for document in DOCS.rglob("*.md")
        for path, _ in LINK.findall(FENCED.sub("", document.read_text(encoding="utf-8")))
        if path and not (document.parent / path).resolve().is_relative_to(DOCS)
    ]
    assert outside == []


def test_the_wheel_and_the_image_have_what_the_help_shows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["app"]
    shown = [
        path.relative_to(DOCS)
        for path in DOCS.rglob("*")
        if path.suffix in {".md", ".webp", ".svg"} and path.parent.name != "decisions"
    ]
    assert [str(path) for path in shown if not any(("web/help" / path).match(each) for each in patterns)] == []
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    admitted = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert {name for names in copied for name in names.split()} <= set(admitted)


def _entries(nav: Any) -> Iterator[str]:
    for entry in nav:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else _entries(value)


def test_the_site_and_the_table_of_contents_have_every_document() -> None:
    documents = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    shown = {each for each in documents if not re.match(r"decisions/\d", each)}
    nav = list(_entries(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    assert sorted(nav) == sorted(shown)
    linked = {path for path, _ in LINK.findall((DOCS / "index.md").read_text(encoding="utf-8"))}
    assert linked == shown - {"index.md"}
