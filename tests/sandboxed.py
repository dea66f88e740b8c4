"""What tests of untrusted code need: a sandbox that starts. `posttrain doctor` says what is missing where none does."""

from __future__ import annotations

import asyncio
import os
from functools import cache

import pytest

from posttrain import sandbox
from posttrain.types import UserError


@cache
def _missing() -> str:
    """Why no sandbox can be had here; empty where one can."""
    try:
        asyncio.run(sandbox.run(sandbox.python("pass")))
    except UserError as error:
        return str(error)
    return ""


needs_sandbox = pytest.mark.skipif("REQUIRE_SANDBOX" not in os.environ and bool(_missing()), reason=f"no sandbox here: {_missing()}")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change who runs it")
