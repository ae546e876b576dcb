"""Programs as `python -m` starts them, forked from a process that has imported what takes seconds.

Importing PyTorch and open_clip takes about ten seconds of processor time, and production pays it for each trainer: a
trainer is a fresh process there. Most tests ask what a trainer does, not how Python starts. They pass `Forks.launch`
where a supervisor takes its `launch`. The system tests start everything as production does.
"""

import os
import runpy
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, Self

_PRELOADED = ("torch", "open_clip", "worker.steps.ingest", "worker.steps.patch", "worker.steps.finetune")
_NUMBER = struct.Struct("i")
_MOST_BYTES = 1 << 20
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
        os.set_blocking(status.fileno(), False)

    def poll(self) -> int | None:
        """Exit status, minus the signal that ended it, or None while it runs."""
        if self._exit_status is None and (told := self._status.read(_NUMBER.size)) is not None:
            self._exit_status = os.waitstatus_to_exitcode(*_NUMBER.unpack(told))
            self._status.close()
        return self._exit_status

    def wait(self) -> int:
        """Exit status, once it has ended."""
        if self._exit_status is None:
            os.set_blocking(self._status.fileno(), True)
        status = self.poll()
        assert status is not None
        return status

    def terminate(self) -> None:
        """Ask it to stop."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)


class Forks:
    """A server process that forks; use it as a context manager."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._socket, theirs = socket.socketpair()
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        self._server = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=_ROOT)
        theirs.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._server.wait()

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
            socket.send_fds(self._socket, ["\0".join(fields).encode()], theirs)
            (pid,) = _NUMBER.unpack(self._socket.recv(_NUMBER.size))
        for descriptor in (stdin, stdout, status):
            os.close(descriptor)
        return Forked(pid, os.fdopen(our_stdin, "wb", 0), os.fdopen(our_stdout, "rb"), os.fdopen(our_status, "rb", 0))


def _serve(connection: socket.socket) -> None:
    """Fork for each request until the tests are over; returns in a forked process, too, once its program has ended."""
    for name in _PRELOADED:
        import_module(name)
    assert threading.active_count() == 1, "only the thread that forks lives on in the fork"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the watchers' ends are nobody's business
    while True:
        request, descriptors, _, _ = socket.recv_fds(connection, _MOST_BYTES, 4)
        if not request:
            return
        if os.fork() == 0:
            _watch(connection, request.decode(), *descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def _watch(connection: socket.socket, request: str, stdin: int, stdout: int, stderr: int, status: int) -> None:
    """Fork once more, and tell how the program has ended; returns in the program's process only."""
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
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit(0)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
    sys.stderr.flush()
    os._exit(0)  # taking apart what was imported takes seconds
