"""What holds for every test: no network, one thread, fixed seeds, and annotated shapes that are checked."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis.configuration import set_hypothesis_home_dir
from jaxtyping import install_import_hook

from posttrain import cli
from posttrain.policy.numerics import prepare
from tests.ended import Ended
from tests.typechecking import checked

# Before anything imports them: the hook checks the modules that are imported after it.
install_import_hook(["posttrain.advantages", "posttrain.losses"], f"{checked.__module__}.{checked.__name__}")

torch.set_num_threads(1)
# Before the first product of the process: sampler and trainer then agree to the bit.
prepare()
# The same examples in every run, and no folder left in the repository.
set_hypothesis_home_dir(Path(tempfile.gettempdir(), "hypothesis"))
hypothesis.settings.register_profile("posttrain", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("posttrain")


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    """Every test starts from the same random state, whichever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def posttrain(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs one command in this process: `posttrain("eval", "--model", "tiny", …)`."""

    def run(*argv: object) -> Ended:
        capsys.readouterr()
        return Ended(cli.run([str(word) for word in argv]), *capsys.readouterr())

    return run
