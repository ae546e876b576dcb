"""The `paintbox` command in the process of the test, which is quicker than a process of its own."""

import io
import json
import os
import re
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import pytest

from paintbox_client.cli import main

_STYLES = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Done:
    """What a command has written and how it ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What a program reads."""
        return json.loads(self.out)


def run(*arguments: object, columns: int | None = None, **variables: str) -> Done:
    """Run `paintbox`, in a terminal of so many columns, if they are given."""
    out, err = io.StringIO(), io.StringIO()
    if columns is not None:
        variables |= {"COLUMNS": str(columns), "FORCE_COLOR": "1", "TERM": "xterm"}
    with pytest.MonkeyPatch.context() as patched:
        for name in [name for name in os.environ if name.startswith("PAINTBOX_")]:
            patched.delenv(name)
        patched.setenv("PAINTBOX_DATA_DIR", "/nonexistent")
        for name, value in variables.items():
            patched.setenv(name, value)
        patched.setattr("sys.argv", ["paintbox", *map(str, arguments)])
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    return Done(code if isinstance(code, int) else 0, *(_STYLES.sub("", each.getvalue()) for each in (out, err)))
