"""Write the demo's measured table and picture into the README: `python docs/update_readme.py runs/demo`."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

from posttrain.evals.picture import pass_at_k_svg
from posttrain.evals.table import figure
from posttrain.types import Measurement

ROOT = Path(__file__).parent.parent
START, END = "<!-- demo -->\n", "<!-- /demo -->"


def main(run: Path) -> None:
    """Replace what stands between the marks."""
    found = json.loads((run / "comparison.json").read_text())
    (ROOT / "docs" / "pass_at_k.svg").write_text(pass_at_k_svg(found))
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(START)
    readme.write_text(before + START + section(found, run) + END + rest.split(END)[1])


def section(found: dict, run: Path) -> str:
    """A sentence, the table and the picture."""
    config, metrics = found["training"]["config"], found["training"]["metrics"]
    minutes = sum(row["time/step_s"] for row in metrics) / 60
    lines = [
        f"`posttrain train grpo` on `{found['task']}`: {config['steps']} steps of {config['problems_per_step']} problems ×"
        f" {config['group_size']} attempts, {minutes:.1f} minutes of training on two cores. Measured on {found['n_problems']} problems"
        f" it was not trained on, {found['samples']} attempts at each, 95% intervals over problems:",
        "",
        "| | before | after | difference | n |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in found["rows"]:
        base, trained, difference = (measurement(row[key]) for key in ("base", "trained", "difference"))
        unit = difference.unit if difference and difference.unit != "fraction" else ""
        cells = (figure(base), figure(trained), figure(difference, signed=base is not None), str(difference.n if difference else ""))
        lines.append(f"| {row['title']}{f', {unit}' if unit else ''} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\n![pass@k before and after training](docs/pass_at_k.svg)\n\n"


def measurement(found: dict | None) -> Measurement | None:
    """Undo what JSON did to nan."""
    return found and Measurement(**{key: math.nan if value is None else value for key, value in found.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo"))
