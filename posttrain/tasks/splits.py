"""What the tasks share: the two splits, and rows of a data set on the hub."""

from __future__ import annotations

from posttrain.data.jsonl import Row
from posttrain.types import UserError


def check_split(split: str) -> None:
    """Raises `UserError` unless `split` is `train` or `test`."""
    if split not in ("train", "test"):
        raise UserError(f"a task has the splits train and test, not {split!r}")


def read_hub(dataset: str, config: str | None, split: str, option: str) -> list[Row]:
    """The rows of a data set on the Hugging Face hub, or in its cache, through the optional package `datasets`.

    Raises `UserError` if the package is missing, or if the data set is neither cached nor within reach; `option` is the
    task's own option that takes a local file instead.
    """
    try:
        import datasets
    except ImportError as error:
        remedy = f"pip install 'posttrain[datasets]', or say {option}=FILE"
        raise UserError(f"{dataset} needs the package datasets: {remedy}") from error
    try:
        rows = datasets.load_dataset(dataset, config, split=split)
    except Exception as error:  # the hub's client raises a dozen kinds for "not cached and not within reach"
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"cannot get {dataset} from the hub or its cache ({reason}): say {option}=FILE") from error
    return [(f"{dataset} {split} row {number}", dict(row)) for number, row in enumerate(rows, 1)]
