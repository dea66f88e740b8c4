"""Copies of the metrics for other viewers."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

import pytest

from posttrain.runs.mirrors import NAMES, open_mirrors
from posttrain.types import UserError


def test_without_being_asked_nothing_is_mirrored(tmp_path: Path) -> None:
    assert open_mirrors((), tmp_path, {}) == []


def test_a_mirror_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no mirror 'wandbb': choose among wandb, trackio, tensorboard"):
        open_mirrors(("wandbb",), tmp_path, {})


@pytest.mark.parametrize("name", NAMES)
def test_a_mirror_that_is_not_installed_says_how_to_install_it(name: str, tmp_path: Path) -> None:
    if find_spec(name):
        pytest.skip(f"{name} is installed")
    with pytest.raises(UserError, match=rf"pip install 'posttrain\[{name}\]'"):
        open_mirrors((name,), tmp_path, {})
    assert not any(tmp_path.iterdir())


def test_tensorboard_gets_every_finite_number(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (mirror,) = open_mirrors(("tensorboard",), tmp_path, {})
    mirror.log(1, {"reward/mean": 0.25, "policy/kl": math.nan})
    mirror.log(2, {"reward/mean": 0.5})
    mirror.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == ["reward/mean"]
    assert [(event.step, event.value) for event in events.Scalars("reward/mean")] == [(1, 0.25), (2, 0.5)]
