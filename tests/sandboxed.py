"""What tests of untrusted code need: a sandbox. Continuous integration has one, or fails."""

from __future__ import annotations

import os
import shutil

import pytest

needs_sandbox = pytest.mark.skipif(
    shutil.which("bwrap") is None and "CI" not in os.environ, reason="there is no bubblewrap here: apt-get install bubblewrap"
)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change who runs it")
