"""What shows that a trainer works, and what it may take."""

import io
import subprocess
import sys
import time

import pytest

from worker.messages import Alive, Channel, parse_message
from worker.vitals import Work, has_worked, measure_work, tell_signs_of_work

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_a_process_that_waits_has_not_worked_and_one_that_computes_has() -> None:
    before = Work(at=100.0, cpu_seconds=5.0, num_bytes=1_000)
    assert not has_worked(before, Work(at=110.0, cpu_seconds=5.1, num_bytes=2_000))
    assert has_worked(before, Work(at=110.0, cpu_seconds=5.5, num_bytes=1_000))
    assert has_worked(before, Work(at=110.0, cpu_seconds=5.0, num_bytes=1_000_000))
    measured = measure_work()
    while measure_work().cpu_seconds == measured.cpu_seconds:
        sum(range(100_000))


@LINUX
def test_a_process_that_reads_or_writes_has_worked() -> None:
    with open("/dev/zero", "rb", buffering=0) as file:
        before = measure_work()
        file.read(1 << 20)
        assert measure_work().num_bytes - before.num_bytes >= 1 << 20


def test_a_trainer_that_computes_tells_so_while_it_has_nothing_else_to_tell() -> None:
    pipe = io.StringIO()
    tell_signs_of_work(Channel(pipe), look_seconds=0.5)
    deadline = time.monotonic() + 30
    while not pipe.getvalue() and time.monotonic() < deadline:
        sum(range(100_000))
    assert parse_message(pipe.getvalue().splitlines()[0]) == Alive()
    pipe.close()


@LINUX
def test_a_trainer_of_strangers_files_has_a_limit_to_its_memory_and_is_the_first_to_go() -> None:
    code = (
        "from worker.vitals import be_ended_first, limit_memory\n"
        "be_ended_first(); limit_memory(300 << 20)\n"
        "print(open('/proc/self/oom_score_adj').read().strip())\n"
        "try:\n    bytearray(1 << 30)\n"
        "except MemoryError:\n    print('refused')\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.split() == ["500", "refused"]
