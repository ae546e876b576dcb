import sys

from tests.project.paths import ROOT

# The benchmarks are programs, not a package: they find one another as a program finds what lies beside it.
sys.path.insert(0, str(ROOT / "benchmarks"))
