"""Notes what a process does that nothing may make it do: write outside its folder, use the network, start programs."""

import os
import sys
from pathlib import Path
from typing import Any

_STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn"}
_CONNECTS = {"socket.connect", "socket.getaddrinfo", "socket.sendto"}
_CHANGES = {"os.remove", "os.rename", "os.link", "os.symlink", "os.rmdir"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Guard:
    """Watches this process from now on, by an audit hook.

    Args:
        folder: The only one that may be written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder.resolve())
        self._seen: list[str] = []
        sys.addaudithook(self._look)

    def take(self) -> list[str]:
        """Return what was seen since the last call."""
        seen, self._seen = self._seen, []
        return seen

    def _look(self, event: str, args: tuple[Any, ...]) -> None:
        if event in _STARTS or event in _CONNECTS:
            self._seen.append(f"{event} {args[:2]!r:.200}")
        elif event == "open" and args[2] & _WRITING and self._is_outside(args[0]):
            self._seen.append(f"opens {args[0]!r:.200} to write")
        elif event in _CHANGES and any(map(self._is_outside, _paths(args[event == "os.symlink" :]))):
            self._seen.append(f"{event} {args[:2]!r:.200}")

    def _is_outside(self, path: Any) -> bool:
        if isinstance(path, int):
            return False
        absolute = os.path.abspath(os.fsdecode(path))
        return not absolute.startswith(self._folder + os.sep) and not absolute.startswith("/dev/")


def _paths(args: tuple[Any, ...]) -> list[str]:
    """Return the paths that an event names; a relative one lies in the folder that its descriptor stands for."""
    paths = [os.fsdecode(path) for path in args[:2] if isinstance(path, str | bytes)]
    descriptors = [number for number in args if isinstance(number, int) and number > 2]
    if descriptors and not os.path.isabs(paths[0]):
        return [os.path.join(os.readlink(f"/proc/self/fd/{descriptors[0]}"), paths[0])]
    return paths
