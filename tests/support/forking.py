"""Programs as `python -m` starts them, forked from a process that has imported what takes seconds.

Importing PyTorch and open_clip takes about ten seconds of processor time, and production pays it for each trainer: a
trainer is a fresh process there. Most tests ask what a trainer does, not how Python starts. They pass `Forks.launch`
where a supervisor takes its `launch`. The system tests start everything as production does.
"""

import os
import runpy
import select
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import IO, NoReturn, Self

from filelock import FileLock

_NUMBER = struct.Struct("i")
_MOST_BYTES = 1 << 20
_READY = b"ready"
_UNUSED_SECONDS = 30.0
_ROOT = Path(__file__).parents[2]


class Forked:
    """A process that was forked from the server; what `subprocess.Popen` has that `worker.process` uses.

    Attributes:
        pid: Its number, and that of its process group.
        stdin: A pipe to its standard input.
        stdout: A pipe from its standard output.
    """

    def __init__(self, pid: int, stdin: IO[bytes], stdout: IO[bytes], status: IO[bytes]) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self._status = status
        self._exit_status: int | None = None
        self._lock = threading.Lock()
        os.set_blocking(status.fileno(), False)

    def poll(self) -> int | None:
        """Exit status, minus the signal that ended it, or None while it runs."""
        with self._lock:
            if self._exit_status is None and (told := self._status.read(_NUMBER.size)) is not None:
                self._exit_status = os.waitstatus_to_exitcode(*_NUMBER.unpack(told))
                self._status.close()
            return self._exit_status

    def wait(self, seconds: float = 240) -> int:
        """Exit status, once it has ended."""
        until = time.monotonic() + seconds
        while (status := self.poll()) is None:
            assert time.monotonic() < until, f"still running after {seconds} s"
            time.sleep(0.01)
        return status

    def terminate(self) -> None:
        """Ask it to stop."""
        self.send_signal(signal.SIGTERM)

    def send_signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it, and release what it held."""
        self.send_signal(signal.SIGKILL)
        self.wait()
        self.stdin.close()
        self.stdout.close()


class Forks:
    """A server process that forks, shared by all test processes of one run; use it as a context manager.

    It starts when it is first needed, and ends when nobody is connected any more.

    Args:
        modules: What it imports before it forks.
    """

    def __init__(self, *modules: str) -> None:
        run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
        self._path = (
            Path(tempfile.gettempdir()) / f"forks-{sha256(' '.join((run, *modules)).encode()).hexdigest()[:16]}"
        )
        self._modules = modules
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._launched: list[tuple[Sequence[str], int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()

    def connect(self) -> socket.socket:
        """Wait until the server has imported what it imports; without this, the first launch waits."""
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX)
            with FileLock(self._path.with_name("forks.lock")):
                try:
                    connection.connect(str(self._path))
                except OSError:
                    self._start_server()
                    connection.connect(str(self._path))
            assert connection.recv(len(_READY)) == _READY
            self._socket = connection
        return self._socket

    def _start_server(self) -> None:
        self._path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self._path))
            listener.listen()
            listener.set_inheritable(True)
            command = [sys.executable, "-m", __name__, str(listener.fileno()), *self._modules]
            os.posix_spawn(sys.executable, command, {**os.environ, "PYTHONPATH": str(_ROOT)}, setsid=True)

    def running(self, argument: str) -> list[int]:
        """Numbers of the processes that run now and have this argument."""
        return [pid for command, pid in self._launched if argument in command and _is_there(pid)]

    def launch(self, command: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> Forked:
        """Start `python -m MODULE ARGUMENTS`, as `worker.process.launch` does.

        Args:
            command: Python, `-m`, a module and its arguments.
            environment: All of its environment.
            log: Where its standard error goes.

        Returns:
            The process.
        """
        assert tuple(command[:2]) == (sys.executable, "-m")
        (stdin, our_stdin), (our_stdout, stdout), (our_status, status) = os.pipe(), os.pipe(), os.pipe()
        theirs = [stdin, stdout, log.fileno(), status]
        fields = [str(len(command) - 2), *command[2:], *(f"{name}={value}" for name, value in environment.items())]
        with self._lock:
            connection = self.connect()
            socket.send_fds(connection, ["\0".join(fields).encode()], theirs)
            (pid,) = _NUMBER.unpack(connection.recv(_NUMBER.size))
        for descriptor in (stdin, stdout, status):
            os.close(descriptor)
        self._launched.append((command, pid))
        return Forked(pid, os.fdopen(our_stdin, "wb", 0), os.fdopen(our_stdout, "rb"), os.fdopen(our_status, "rb", 0))

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error of `python ARGUMENTS` with these variables besides ours."""
        with tempfile.TemporaryFile() as log:
            process = self.launch((sys.executable, *arguments), {**os.environ, **environment}, log)
            output = process.stdout.read()
            status = process.wait()
            process.kill()
            log.seek(0)
            return status, output.decode(), log.read().decode()


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _serve(listener: socket.socket, modules: Sequence[str]) -> None:
    """Fork for each request until the tests are over."""
    for name in modules:
        import_module(name)
    assert threading.active_count() == 1, "only the thread that forks lives on in the fork"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the watchers' ends are nobody's business
    connections: list[socket.socket] = []
    while found := select.select([listener, *connections], [], [], None if connections else _UNUSED_SECONDS)[0]:
        for ready in found:
            if ready is listener:
                connections.append(listener.accept()[0])
                connections[-1].sendall(_READY)
                continue
            request, descriptors, _, _ = socket.recv_fds(ready, _MOST_BYTES, 4)
            if not request:
                connections.remove(ready)
                ready.close()
                if not connections:
                    return
            elif os.fork() == 0:
                for each in {listener, *connections} - {ready}:
                    each.close()
                _watch(ready, request.decode(), *descriptors)
                return
            for descriptor in descriptors:
                os.close(descriptor)


def _watch(connection: socket.socket, request: str, stdin: int, stdout: int, stderr: int, status: int) -> None:
    """Fork once more, and tell how the program has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.close(status)
        os.setsid()
        connection.send(_NUMBER.pack(os.getpid()))  # not earlier: its group may be ended from now on
        connection.close()
        for target, descriptor in enumerate((stdin, stdout, stderr)):
            os.dup2(descriptor, target)
            os.close(descriptor)
        _run(request)
        return
    for descriptor in (stdin, stdout, stderr, connection.fileno(), 0, 1):
        os.close(descriptor)
    os.write(status, _NUMBER.pack(os.waitpid(pid, 0)[1]))
    os._exit(0)


def _run(request: str) -> None:
    """Be `python -m MODULE ARGUMENTS`."""
    count, *fields = request.split("\0")
    (module, *arguments), environment = fields[: int(count)], fields[int(count) :]
    os.environ.clear()
    os.environ.update(each.partition("=")[::2] for each in environment)
    sys.argv = [module, *arguments]
    status: object = None
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as leaving:
        status = leaving.code
    except BaseException:
        traceback.print_exc()
        status = 1
    if isinstance(status, str):
        sys.stderr.write(f"{status}\n")
        status = 1
    _leave(status if isinstance(status, int) else 0)


def _leave(status: int) -> NoReturn:
    """Exit at once: taking apart what was imported takes seconds."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as opened:
        _serve(opened, sys.argv[2:])
        Path(opened.getsockname()).unlink(missing_ok=True)
    _leave(0)
