"""Each side does its work on a tiny model; ratios by hand; what the programs refuse."""

from __future__ import annotations

import json
from importlib import import_module
from importlib.util import find_spec

import pytest

from benchmarks import grpo_step, sampling
from benchmarks.apart import Side
from benchmarks.compare import Options, main, measure
from benchmarks.machine import Machine
from benchmarks.report import Ratios, Report
from benchmarks.work import Done, Work
from posttrain.types import UserError

TINY = Work(model="tiny", dtype="float32", prompts=2, samples=3, tokens=5, warmup=0, repeats=2, threads=1)
TINY_FLAGS = "--model tiny --dtype float32 --prompts 1 --samples 2 --tokens 2 --warmup 0 --repeats 1 --threads 1".split()
HERE = Machine("a processor", 2, "none", 0.0, {"torch": "2"})


def done_here(side: Side, work: Work = TINY) -> Done:
    """What a side does, in this process."""
    return import_module(f"benchmarks.sides.{side.module}").run(work, side.setting)


def report(ours: Done, peer: Done) -> Report:
    return Report("a title", "a command", TINY, HERE, {"posttrain": ours, "peer": peer})


def test_all_sides_of_sampling_read_and_write_equally_many_tokens():
    ours, *peers = (done_here(side) for side in sampling.sides(TINY))
    assert ours.sampled_tokens == 2 * 3 * 5
    assert len(ours.seconds) == TINY.repeats
    for peer in peers:
        report(ours, peer)


def test_our_step_trains_on_every_completion_to_its_full_length():
    done = done_here(grpo_step.sides(TINY)[0])
    assert done.sampled_tokens == 2 * 3 * 5
    for seconds, sampling_s, training_s in zip(done.seconds, done.parts["sampling"], done.parts["training"], strict=True):
        assert 0 < sampling_s < sampling_s + training_s <= seconds


@pytest.mark.skipif(find_spec("trl") is None, reason="TRL is an extra: pip install 'posttrain[bench]'")
@pytest.mark.parametrize("side", grpo_step.sides(TINY)[1:], ids=lambda side: side.name)
def test_a_step_of_trl_reads_and_writes_as_many_tokens_as_ours(side):
    peer = done_here(side)
    assert len(peer.seconds) == len(peer.parts["sampling"]) == TINY.repeats
    assert all(0 < part < whole for part, whole in zip(peer.parts["training"], peer.seconds, strict=True))
    report(done_here(grpo_step.sides(TINY)[0]), peer)


def test_trl_with_rounded_weights_is_only_compared_in_bfloat16():
    names = [[side.name for side in grpo_step.sides(Work(dtype=dtype))] for dtype in ("float32", "bfloat16")]
    assert "TRL, bf16 weights" not in names[0]
    assert "TRL, bf16 weights" in names[1]


def test_sides_that_did_different_work_are_no_comparison():
    with pytest.raises(ValueError, match="different work"):
        report(Done((1.0,), (1.0,), 10, 100), Done((1.0,), (1.0,), 10, 99))


def test_a_ratio_is_of_medians_and_its_interval_holds_every_pair_of_repeats():
    ours = Done((1.0, 2.0, 4.0), (1.0, 1.0, 1.0), 10, 100, peak_bytes=2)
    peer = Done((6.0, 3.0, 8.0), (3.0, 5.0, 4.0), 10, 100, peak_bytes=5)
    assert Ratios.of(peer, ours) == Ratios((3.0, 3.0 / 4.0, 8.0), 4.0, 2.5)


def test_the_row_of_a_peer_says_how_much_more_it_took():
    ours, peer = Done((2.0,), (4.0,), 10, 100, peak_bytes=10**9), Done((6.0,), (5.0,), 10, 100, peak_bytes=25 * 10**8)
    _, _, row = report(ours, peer).rows
    assert row == ["peer", "6.00 [6.00 6.00]", "5.00", "16.7", "2.50", "3.00 [3.00 3.00]", "1.25", "2.50"]


def test_sections_are_appended_behind_one_header(tmp_path):
    page = tmp_path / "BENCHMARKS.md"
    for _ in range(2):
        report(Done((1.0,), (1.0,), 10, 100, peak_bytes=1), Done((2.0,), (2.0,), 10, 100, peak_bytes=2)).append_to(page)
    text = page.read_text()
    assert text.count("# Benchmarks\n") == 1
    assert text.count(": a title\n") == 2


def test_a_missing_peer_is_named_before_anything_is_measured():
    def sides(work: Work) -> list[Side]:
        return [Side("ours", "no_such_module"), Side("theirs", "no_such_module", needs="no_such_package")]

    with pytest.raises(UserError, match="no_such_package is not installed"):
        measure("", "", Options(TINY), sides)


def test_the_program_measures_our_side_in_a_process_of_its_own_and_prints_json(capsys):
    main("benchmarks.sampling", "sampling", "", sampling.sides, [*TINY_FLAGS, "--no-peers", "--json"])
    printed = json.loads(capsys.readouterr().out)
    ours = printed["sides"]["posttrain"]
    assert ours["sampled_tokens"] == 4
    assert ours["tokens_per_s"] == pytest.approx(4 / ours["seconds"][0])
    assert ours["peak_bytes"] > 10**8
    assert printed["machine"]["versions"]["torch"]


@pytest.mark.parametrize("flags", ["--samples 1", "--tokens 0", "--threads -1", "--model no-such-model"])
def test_bad_input_is_refused_in_one_sentence(flags, capsys):
    with pytest.raises(SystemExit) as end:
        main("benchmarks.sampling", "sampling", "", sampling.sides, flags.split())
    assert end.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize("module", [grpo_step, sampling])
def test_help_says_how_each_side_was_set(module, capsys):
    with pytest.raises(SystemExit) as end:
        main(module.__name__, "", module.__doc__, module.sides, ["--help"])
    assert end.value.code == 0
    assert "The same for all" in capsys.readouterr().out
