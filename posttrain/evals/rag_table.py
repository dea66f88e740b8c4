"""What was found and what was made of it, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from posttrain.evals.rag import VERDICTS, Anatomy
from posttrain.evals.rankings import Ranked
from posttrain.evals.table import figure


def rankings_table(ranked: Sequence[Ranked], name: str, n_documents: int, ks: Sequence[int], n_cut: int, more: Sequence[str] = ()) -> Table:
    """Retrievers with nDCG and recall at 10 (or at the largest k), recall at the largest, and the paired difference to the first."""
    k = 10 if 10 in ks else ks[-1]
    columns = {f"ndcg@{k}": f"nDCG@{k}", f"recall@{k}": f"recall@{k}", f"recall@{ks[-1]}": f"recall@{ks[-1]}"}
    heads = [*columns.values(), f"− {ranked[0].name}", "ms/query"]
    found = _table(f"{name}: {ranked[0].metrics[f'ndcg@{k}'].n} queries, {n_documents:,} documents, 95% intervals over queries", "", heads)
    for each in ranked:
        against = figure(each.differences.get(f"ndcg@{k}"), signed=True)
        found.add_row(each.name, *(figure(each.metrics[metric]) for metric in columns), against, f"{each.ms_per_query:.1f}")
    notes = [f"− {ranked[0].name}: nDCG@{k} less that of {ranked[0].name}, in points, paired by query"] if len(ranked) > 1 else []
    notes += [f"{n_cut} documents are longer than the embedding model reads: their ends are not in their vectors"] if n_cut else []
    unscored = ranked[0].metrics[f"ndcg@{k}"].n_unscored
    notes += [f"{unscored} queries have no relevant document, and say nothing"] if unscored else []
    found.caption = Text("\n".join([*notes, *more]))
    return found


def answers_table(measured: Mapping[str, Anatomy], title: str) -> Iterator[Table]:
    """Approaches side by side: what was measured, and of which kind each attempt was."""
    first = next(iter(measured.values()))
    quantities = _table(f"{title}, 95% intervals over questions", "", [*measured, "n"])
    for quantity in first.quantities:
        cells = [_cell(anatomy, quantity.name) for anatomy in measured.values()]
        unit = f", {quantity.measurement.unit}" if quantity.measurement.unit == "tokens" else ""
        quantities.add_row(f"{quantity.title}{unit}", *cells, "/".join(dict.fromkeys(str(a[quantity.name].n) for a in measured.values())))
    quantities.add_row("identity off by", *(f"{anatomy.residual:.0e}" for anatomy in measured.values()), "")
    quantities.caption = Text("\n".join(f"{name}: {note}" for name, anatomy in measured.items() for note in anatomy.notes))
    yield quantities
    counts = _table("what became of the attempts", "", list(measured))
    for verdict in VERDICTS:
        if any(anatomy.counts[verdict] for anatomy in measured.values()):
            counts.add_row(verdict, *(str(anatomy.counts[verdict]) for anatomy in measured.values()))
    yield counts


def _cell(anatomy: Anatomy, name: str) -> str:
    """The figure, unless it rests on scores and those are withheld."""
    return "withheld" if anatomy.withheld and name.startswith(("accuracy", "abstained", "copied")) else figure(anatomy[name])


def _table(title: str, first: str, heads: Sequence[str]) -> Table:
    found = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    found.add_column(first, min_width=10)
    for head in heads:
        found.add_column(Text(head), justify="right")
    return found
