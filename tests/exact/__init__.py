"""Checks against closed forms, enumeration and plain computations; `table` publishes them."""

from __future__ import annotations

from posttrain.policy.numerics import prepare

# Before the first product of the process, whichever module of this folder makes it.
prepare()
