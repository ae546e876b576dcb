"""The servers side by side: all are loaded, one at a time runs while the others are held still, in turns."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from _serving.bound import Bound, Job, Process, open_bound
from _serving.client import Measured, Plan, run
from _serving.environments import python_of
from _serving.servers import Command, Running, paintbox, serve

TEN_LABELS = tuple(f"label {index}" for index in range(10))
TOP_K = 5
LOWER = "-bf16"
"""How the name of a peer ends whose image tower is cast."""


@dataclass(frozen=True)
class Model:
    """What is served.

    Attributes:
        name: `starter` or `vitb32`.
        ref: As Paintbox names it.
        folder: open_clip's folder.
        num_processes: Of ours that serve it.
    """

    name: str
    ref: str
    folder: Path
    num_processes: int = 1


@dataclass(frozen=True)
class Lineup:
    """Servers that run, all held still, and the bound.

    Attributes:
        bound: The process without HTTP.
        servers: By name.
        photos: Folder of photographs; None: the default.
    """

    bound: Process
    servers: Mapping[str, Running]
    photos: str | None

    def measure_bound(self, job: Job) -> Bound:
        """Return what the bound does while all servers are held still."""
        self.bound.go_on()
        try:
            return self.bound.measure(job)
        finally:
            self.bound.pause()

    def measure(self, name: str, plan: Plan) -> Measured:
        """Return what one server does while all others are held still."""
        server = self.servers[name]
        server.go_on()
        try:
            return run(self.aimed(name, plan))
        finally:
            server.pause()

    def aimed(self, name: str, plan: Plan) -> Plan:
        """Return the plan with the server's address and its form's names."""
        server = self.servers[name]
        command = server.command
        fields = plan.fields if command.takes_labels else {}
        named = replace(plan, port=server.port, path=command.path, image_field=command.image_field)
        return replace(named, fields=fields, photos=self.photos)


def single(concurrency: int | None, seconds: float, *, rate: float = 0.0, labels: Sequence[str] = TEN_LABELS) -> Plan:
    """Return the plan of requests with one image each.

    Args:
        concurrency: Requests in flight; None: an open loop.
        seconds: How long, without a quarter more to warm up.
        rate: Requests a second of an open loop.
        labels: Candidate labels.
    """
    fields = {"candidate_labels": json.dumps(list(labels)), "top_k": str(TOP_K)}
    return Plan(0, "", fields=fields, concurrency=concurrency, rate=rate, seconds=seconds, warm_up=seconds / 4)


@contextmanager
def open_lineup(model: Model, scratch: Path, photos: str | None, peers: Sequence[str]) -> Iterator[Lineup]:
    """Start the bound, Paintbox and the peers, and yield them held still.

    Args:
        model: What they serve.
        scratch: Folder for data and logs.
        photos: Folder of photographs; None: the default.
        peers: Keys of `PEERS`.

    Yields:
        Lineup: Everything is stopped when the context ends.
    """
    ours = paintbox(scratch / f"data-{model.name}", model.ref, num_processes=model.num_processes)
    commands = [ours, *(PEERS[peer](model) for peer in peers)]
    with ExitStack() as stack:
        bound = stack.enter_context(open_bound(model.ref, photos))
        bound.pause()
        servers = {}
        for command in commands:
            server = stack.enter_context(serve(command, scratch / f"{model.name}-{command.name}.log"))
            server.pause()
            servers[command.name] = server
        yield Lineup(bound, servers, photos)


def _fastapi(model: Model) -> Command:
    arguments = (sys.executable, "-m", "_serving.peer_fastapi", "{port}", str(model.folder))
    return Command("fastapi", arguments, "/ready", "/classify")


def _litserve(model: Model) -> Command:
    arguments = (python_of("litserve"), "-m", "_serving.peer_litserve", "{port}", str(model.folder))
    return Command("litserve", arguments, "/health", "/classify")


def _bentoml(model: Model) -> Command:
    python = python_of("bentoml")
    arguments = (python, "-m", "bentoml", "serve", "_serving.peer_bentoml:Classify", "--port", "{port}")
    variables = {
        "PEER_MODEL": str(model.folder),
        "PEER_LABELS": json.dumps(TEN_LABELS),
        "BENTOML_DO_NOT_TRACK": "True",
        "PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}",
    }
    return Command(
        "bentoml", (*arguments, "--host", "127.0.0.1"), "/readyz", "/classify", variables, takes_labels=False
    )


def _in_bf16(make: Callable[[Model], Command]) -> Callable[[Model], Command]:
    """Return a peer whose image tower is cast to bfloat16, as its user would: none of them does it by itself."""

    def made(model: Model) -> Command:
        command = make(model)
        variables = {**command.variables, "PEER_DTYPE": "bf16"}
        return replace(command, name=command.name + LOWER, variables=variables)

    return made


PEERS = {
    "fastapi": _fastapi,
    "litserve": _litserve,
    "bentoml": _bentoml,
    "litserve-bf16": _in_bf16(_litserve),
    "bentoml-bf16": _in_bf16(_bentoml),
}
