"""What all tests share: how Hypothesis looks for counterexamples."""

import os

from hypothesis import settings

# A law is tried on few examples, because many of ours run a model. No deadline: a busy machine is not a bug.
settings.register_profile("paintbox", max_examples=25, deadline=None, derandomize="CI" in os.environ)
settings.load_profile("paintbox")
