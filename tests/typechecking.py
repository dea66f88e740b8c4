"""Checks annotated arguments and results while tests run, through jaxtyping's import hook.

typeguard's own decorator rewrites a function's source and cannot read axis names there; its `check_type` can be given
the evaluated annotation instead.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Any

from typeguard import check_type


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which first holds each argument against its annotation; jaxtyping passes results as arguments too."""
    parameters = signature(function)
    hints = {name: p.annotation for name, p in parameters.parameters.items() if p.annotation is not Parameter.empty}

    @wraps(function)
    def check_and_call(*args: Any, **kwargs: Any) -> Any:
        for name, value in parameters.bind(*args, **kwargs).arguments.items():
            if name in hints:
                check_type(value, hints[name])
        return function(*args, **kwargs)

    return check_and_call
