"""`python -m tests.chaos.trainer JOB_ID TOKEN`: the real trainer with a patch that does no arithmetic."""

import sys

from registry.contract import JobKind
from worker.trainer import STEPS, main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), {**STEPS, JobKind.PATCH: "tests.chaos.stub"}))
