"""Other people's packages, run in processes of their own: they need versions that would conflict with ours.

A test that needs one runs with the Python of the tests, if the package is there, or with one that
`PAINTBOX_NEIGHBOURS_PYTHON` names (several with a colon between them): the Pythons of environments with `label-studio`,
`fiftyone` or `datumaro`. Else it is skipped, with the reason.
"""

import json
import os
import subprocess
import sys
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "PAINTBOX_NEIGHBOURS_PYTHON"


@lru_cache
def python_with(module: str) -> str:
    """The executable of a Python that has a module; skips the test if there is none."""
    if find_spec(module.partition(".")[0]) is not None:
        return sys.executable
    for other in filter(None, os.environ.get(VARIABLE, "").split(":")):
        look = f"import importlib.util as u; exit(not u.find_spec('{module}'))"
        if subprocess.run([other, "-c", look], check=False).returncode == 0:
            return other
    pytest.skip(f"needs {module}, here or in an environment of {VARIABLE}")


def run_script(module: str, script: str, *arguments: object, folder: Path, **variables: str) -> Any:
    """Run a script that needs a module, in a folder, and return the JSON of its last line, if it is one.

    Args:
        script: Source; its arguments are in `sys.argv[1:]`.
        folder: Working and home directory.
        variables: Of the environment.
    """
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        [python_with(module), "-c", script, *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    last = done.stdout.strip().rpartition("\n")[2]
    return json.loads(last) if last[:1] in ("{", "[", '"') or last.isdigit() else last
