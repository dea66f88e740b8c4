"""Every experiment can be started: what it takes from the product is there."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

import experiments


@pytest.mark.parametrize("name", sorted(path.stem for path in Path(experiments.__file__).parent.glob("*.py") if path.stem != "__init__"))
def test_an_experiment_imports_nothing_that_is_not_there(name: str) -> None:
    import_module(f"experiments.{name}")
