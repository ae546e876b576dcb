import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from paint_core.runtime.allocator import keep_freed_memory
torch.set_num_threads(1)
def fill(megabytes: int) -> None:
    torch.ones(megabytes << 20, dtype=torch.uint8)
def page_faults() -> int:
    fill(80)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for megabytes in (70, 60, 50, 40):  # smaller ones, because some versions of glibc round what they ask for up
        fill(megabytes)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
given_back = page_faults()
assert keep_freed_memory()
print(page_faults(), given_back)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_freed_memory_comes_back_without_page_faults() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    kept, given_back = map(int, done.stdout.split())
    assert given_back > 100  # at least one for each of 2 MiB, where the kernel gives huge pages
    assert kept < given_back / 10
