"""What weights were made with is told completely enough to look for it again."""

import json
import subprocess
import sys

import torch

from paint_core.runtime.provenance import code_sha256, describe_environment


def test_the_environment_is_plain_data_and_names_code_libraries_and_hardware() -> None:
    told = describe_environment(torch.device("cpu"))
    assert json.loads(json.dumps(told)) == told
    assert (
        told["libraries"]["torch"] == torch.__version__.partition("+")[0]
        or told["libraries"]["torch"] == torch.__version__
    )
    assert (told["device"], told["cuda"], told["cudnn"]) == ("cpu", None, None)
    assert told["num_threads"] == torch.get_num_threads()
    assert told["code_sha256"] == code_sha256()


def test_the_code_hash_is_the_same_in_another_process() -> None:
    program = "from paint_core.runtime.provenance import code_sha256; print(code_sha256())"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == code_sha256()
