"""Children are kept alive and surely ended; with real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from paintbox_launcher.supervision import Backoff, ChildGaveUpError, ChildSpec, ProcessSupervisor, put_log_aside

SLEEPER = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('set', flush=True); time.sleep(600)"
)
WRITER = """
import os, time
for number in range(1, 201):
    if number == 101:
        while not os.path.exists({go!r}):
            time.sleep(0.01)
    print("line", number, flush=True)
time.sleep(600)
"""
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', {SLEEPER!r}])
print(child.pid, flush=True)
time.sleep(600)
"""


class World:
    """A supervisor, what it said, and children on demand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: list[str] = []
        self.supervisor = ProcessSupervisor(self.events.append, Backoff(0.05, 0.2, 30.0))

    def start(self, name: str, code: str, **options: Any) -> None:
        command = (sys.executable, "-c", code)
        options.setdefault("grace_seconds", 5.0)
        log_path = self.folder / f"{name}.log"
        self.supervisor.start(
            ChildSpec(name=name, command=command, environment=os.environ, log_path=log_path, **options)
        )

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def pid(self, name: str) -> int:
        pid = self.supervisor.pid(name)
        assert pid is not None
        return pid


def poll_until(supervisor: ProcessSupervisor, is_done: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_done():
        assert time.monotonic() < deadline
        supervisor.poll()
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.supervisor.stop(in_a_hurry=lambda: True)


def test_a_killed_child_is_started_again_and_said_so_in_one_line(world: World) -> None:
    world.start("sleeper", SLEEPER)
    first = world.pid("sleeper")

    os.kill(first, signal.SIGKILL)
    poll_until(world.supervisor, lambda: world.supervisor.pid("sleeper") not in (None, first))

    (event,) = world.events
    assert "sleeper ended (SIGKILL)" in event
    assert is_running(world.pid("sleeper"))


def test_a_child_that_keeps_dying_is_started_ever_later_and_its_log_is_appended(world: World) -> None:
    world.start("failing", "print('here'); raise SystemExit(1)")
    poll_until(world.supervisor, lambda: world.supervisor.num_failures("failing") == 4)
    delays = [event.split("restarting in ")[1].split(" s")[0] for event in world.events]
    assert delays == ["0.05", "0.1", "0.2", "0.2"]
    assert world.log("failing") == "here\n" * 4


def test_a_backoff_doubles_up_to_its_longest() -> None:
    assert [Backoff().delay_seconds(failures) for failures in (1, 2, 3, 5, 6, 1000)] == [0.5, 1, 2, 8, 10, 10]


def test_a_child_that_lived_long_starts_with_a_clean_account(tmp_path: Path) -> None:
    now = [0.0]
    supervisor = ProcessSupervisor(lambda _: None, Backoff(0.5, 10, healthy_seconds=30), clock=lambda: now[0])
    log_path = tmp_path / "child.log"
    spec = ChildSpec(name="child", command=(sys.executable, "-c", ""), environment=os.environ, log_path=log_path)
    supervisor.start(spec)
    for failures in (1, 2, 3):
        poll_until(supervisor, lambda: supervisor.pid("child") is None)
        assert supervisor.num_failures("child") == failures
        now[0] += 11
        supervisor.poll()
    now[0] += 31
    poll_until(supervisor, lambda: supervisor.pid("child") is None)
    assert supervisor.num_failures("child") == 1


def test_each_start_is_prepared_with_the_number_of_failures(world: World) -> None:
    prepared: list[int] = []
    world.start("failing", "raise SystemExit(1)", prepare=prepared.append)
    poll_until(world.supervisor, lambda: len(prepared) == 3)
    assert prepared == [0, 1, 2]


def test_a_start_that_fails_for_want_of_something_is_tried_again(world: World) -> None:
    def prepare(num_failures: int) -> None:
        if num_failures == 0:
            raise OSError("no space left")

    world.start("sleeper", SLEEPER, prepare=prepare)
    assert "cannot start: no space left" in world.events[0]
    poll_until(world.supervisor, lambda: world.supervisor.pid("sleeper"))


def test_a_child_with_a_wrong_configuration_is_not_started_again(world: World) -> None:
    world.start("refusing", "raise SystemExit(2)")
    with pytest.raises(ChildGaveUpError) as caught:
        poll_until(world.supervisor, lambda: False)
    assert caught.value.log_path == world.folder / "refusing.log"


def test_children_are_stopped_together_and_those_that_serve_others_last(world: World) -> None:
    order = world.folder / "order"
    code = """
import signal, sys, time
def leave(*_):
    open({order!r}, 'a').write({name!r} + '-told ')
    while {friend!r} not in open({order!r}).read():
        time.sleep(0.01)
    open({order!r}, 'a').write({name!r} + '-ends ')
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print('set', flush=True)
time.sleep(600)
"""
    for name, friend in (("broker", "broker"), ("first", "second-told"), ("second", "first-told")):
        options = {"serves_others": name == "broker", "grace_seconds": 30.0}
        world.start(name, code.format(order=str(order), name=name, friend=friend), **options)
    poll_until(world.supervisor, lambda: all(world.log(name) for name in ("broker", "first", "second")))
    world.supervisor.stop()
    steps = order.read_text().split()
    assert set(steps[:2]) == {"first-told", "second-told"}  # neither ends before the other is told
    assert steps[4:] == ["broker-told", "broker-ends"]
    assert world.events == []


def test_a_child_that_ignores_sigterm_is_killed_after_its_grace_time(world: World) -> None:
    world.start("stubborn", STUBBORN, grace_seconds=0.3)
    poll_until(world.supervisor, lambda: world.log("stubborn"))
    pid = world.pid("stubborn")
    started = time.monotonic()
    world.supervisor.stop()
    assert 0.3 <= time.monotonic() - started < 3
    assert not is_running(pid)
    assert world.events == ["stubborn does not stop; killing it"]


def test_in_a_hurry_nobody_is_waited_for(world: World) -> None:
    world.start("stubborn", STUBBORN, grace_seconds=60)
    poll_until(world.supervisor, lambda: world.log("stubborn"))
    started = time.monotonic()
    world.supervisor.stop(in_a_hurry=lambda: True)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_what_a_child_leaves_in_its_group_is_killed(world: World, end: str) -> None:
    world.start("parent", PARENT)
    poll_until(world.supervisor, lambda: world.log("parent"))
    grandchild = int(world.log("parent"))
    if end == "killed":
        os.kill(world.pid("parent"), signal.SIGKILL)
        poll_until(world.supervisor, lambda: world.events)
    else:
        world.supervisor.stop()
    poll_until(ProcessSupervisor(world.events.append), lambda: not is_running(grandchild))


def test_a_ctrl_c_in_the_terminal_does_not_reach_children(world: World) -> None:
    world.start("sleeper", SLEEPER)
    assert os.getsid(world.pid("sleeper")) == world.pid("sleeper") != os.getsid(0)


def test_a_log_that_grew_large_is_put_aside(world: World) -> None:
    large = world.folder / "sleeper.log"
    with large.open("wb") as file:
        file.truncate((64 << 20) + 1)
    world.start("sleeper", "print('new', flush=True); " + SLEEPER)
    poll_until(world.supervisor, lambda: world.log("sleeper") == "new\n")
    assert (world.folder / "sleeper.log.1").exists()
    assert large.stat().st_mode & 0o077 == 0


def test_a_log_is_put_aside_while_its_child_goes_on_writing(world: World) -> None:
    """Nothing is lost, and what the child writes next stands at the file's beginning, not after a hole."""
    world.start("writer", WRITER.format(go=str(world.folder / "go")))
    poll_until(world.supervisor, lambda: "line 100\n" in world.log("writer"))
    path = world.folder / "writer.log"
    assert put_log_aside(path, limit_bytes=100)
    (world.folder / "go").touch()
    poll_until(world.supervisor, lambda: "line 200\n" in world.log("writer"))
    aside = path.with_name("writer.log.1")
    assert aside.read_text() + path.read_text() == "".join(f"line {number}\n" for number in range(1, 201))
    assert path.read_text().startswith("line 101\n")
    assert aside.stat().st_mode & 0o077 == 0
    assert not put_log_aside(path, limit_bytes=1 << 20)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_a_sigkilled_supervisor_leaves_no_child(tmp_path: Path) -> None:
    code = f"""
import os, sys, time
from pathlib import Path
from paintbox_launcher.supervision import ChildSpec, ProcessSupervisor
supervisor = ProcessSupervisor(print)
for name in ("a", "b"):
    supervisor.start(ChildSpec(name=name, command=(sys.executable, "-c", {SLEEPER!r}), environment=os.environ,
                               log_path=Path({str(tmp_path)!r}) / name))
print(supervisor.pid("a"), supervisor.pid("b"), flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        children = [int(pid) for pid in supervisor.stdout.readline().split()]
        assert all(map(is_running, children))
        supervisor.kill()
    poll_until(ProcessSupervisor(print), lambda: not any(map(is_running, children)))
