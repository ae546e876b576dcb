"""Write docs/openapi.json and the endpoint table of docs/api.md from the application; `make docs` runs it."""

import json
import re
from pathlib import Path
from typing import Any

from app.main import create_app
from app.settings import AppSettings

DOCS = Path(__file__).parent
BEGIN, END = "<!-- endpoints: written by docs/generate.py -->\n", "<!-- end of endpoints -->\n"
METHODS = ("get", "head", "options", "post", "put", "patch", "delete")


def build_table(openapi: dict[str, Any]) -> str:
    """Return a Markdown table with a line per endpoint, in the order in which the application declares them."""
    lines = [
        f"| `{method.upper()} {path}` | {operation.get('summary', '')} | {describe_access(operation)} |"
        for path, operations in openapi["paths"].items()
        for method, operation in operations.items()
        if method in METHODS
    ]
    return "\n".join(["| endpoint | | needs |", "|---|---|---|", *lines, ""])


def describe_access(operation: dict[str, Any]) -> str:
    """Return the scope that an operation needs, and what has to be the caller's own."""
    scopes = [scope for needed in operation["security"] for scope in needed.get("key", ())]
    owned = operation.get("x-paintbox-owned", "").replace("_", " ")
    return ", ".join([*scopes, *([f"own {owned}"] if owned else [])]) or "no key"


def replace_table(document: str, table: str) -> str:
    """Return the document with `table` between its markers."""
    return re.sub(f"(?s)({re.escape(BEGIN)}).*({re.escape(END)})", lambda found: found[1] + table + found[2], document)


def main() -> None:
    """Write both files. The application is built, not started, so nothing is read from a data directory."""
    openapi = create_app(AppSettings()).openapi()
    (DOCS / "openapi.json").write_text(json.dumps(openapi, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    page = DOCS / "api.md"
    page.write_text(replace_table(page.read_text(encoding="utf-8"), build_table(openapi)), encoding="utf-8")


if __name__ == "__main__":
    main()
