"""Each side does its work on a tiny model; ratios by hand; what the programs refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks import dpo, grpo_step, sampling, sft, vocabulary
from benchmarks.apart import Side
from benchmarks.compare import Options, _chosen, main, measure
from benchmarks.learning import Conversations, Pairs
from benchmarks.machine import Machine
from benchmarks.novella import Novella
from benchmarks.report import Ratios, Report
from benchmarks.vocabularies import Vocabularies
from benchmarks.work import Attempts, Done, Work
from posttrain.policy.hf import load_policy
from posttrain.types import UserError

TINY = Attempts(model="tiny", dtype="float32", prompts=2, samples=3, tokens=5, warmup=0, repeats=2, threads=1)
SHORT = {"model": "tiny", "dtype": "float32", "warmup": 0, "repeats": 2, "steps": 2, "per_step": 6, "longest": 120, "threads": 1}
TEXTS, PAIRS = Conversations(**SHORT), Pairs(**SHORT)
SIZES = Vocabularies(dtype="float32", warmup=0, repeats=1, threads=1, sizes=(512, 1024), tokens=20, width=64, layers=1)
TINY_FLAGS = "--model tiny --dtype float32 --prompts 1 --samples 2 --tokens 2 --warmup 0 --repeats 1 --threads 1".split()
BF16 = replace(TINY, dtype="bfloat16")
HERE = Machine("a processor", 2, "none", 0.0, {"torch": "2"})

needs_trl = pytest.mark.skipif(find_spec("trl") is None, reason="TRL is an extra: pip install 'posttrain[bench]'")


def done_here(side: Side, work: Work = TINY) -> Done:
    """What a side does, in this process."""
    return import_module(f"benchmarks.sides.{side.module}").run(work, side.setting)


def report(ours: Done, peer: Done) -> Report:
    return Report("a title", "a command", TINY, HERE, {"posttrain": ours, "peer": peer})


def test_all_sides_of_sampling_read_and_write_equally_many_tokens():
    ours, *peers = (done_here(side) for side in sampling.sides(TINY))
    assert ours.tokens["sampled"] == 2 * 3 * 5
    assert len(ours.seconds) == TINY.repeats
    for peer in peers:
        report(ours, peer)


def test_our_step_trains_on_every_completion_to_its_full_length():
    done = done_here(grpo_step.sides(TINY)[0])
    assert done.tokens["sampled"] == 2 * 3 * 5
    for seconds, sampling_s, training_s in zip(done.seconds, done.parts["sampling"], done.parts["training"], strict=True):
        assert 0 < sampling_s < sampling_s + training_s <= seconds


@needs_trl
@pytest.mark.parametrize("side", grpo_step.sides(TINY)[1:], ids=lambda side: side.name)
def test_a_step_of_trl_reads_and_writes_as_many_tokens_as_ours(side):
    peer = done_here(side)
    assert len(peer.seconds) == len(peer.parts["sampling"]) == TINY.repeats
    assert all(0 < part < whole for part, whole in zip(peer.parts["training"], peer.seconds, strict=True))
    report(done_here(grpo_step.sides(TINY)[0]), peer)


@pytest.mark.parametrize(("module", "work"), [(grpo_step, TINY), (sft, TEXTS), (dpo, PAIRS)], ids=["grpo", "sft", "dpo"])
def test_trl_with_rounded_weights_is_only_compared_in_bfloat16(module, work):
    names = [[side.name for side in module.sides(replace(work, dtype=dtype))] for dtype in ("float32", "bfloat16")]
    assert "TRL, bf16 weights" not in names[0]
    assert "TRL, bf16 weights" in names[1]


# ------------------------------------------------------------------------------------------------------------------- training


def test_our_sft_trains_on_the_assistants_tokens_of_every_conversation_in_each_pass():
    done, sequences = done_here(sft.sides(TEXTS)[0], TEXTS), TEXTS.items()
    assert done.tokens == {"trained": sum(s.n_predicted for s in sequences), "read": sum(len(s.prompt) + len(s.tokens) for s in sequences)}
    assert 0 < done.tokens["trained"] < done.tokens["read"]
    assert len(done.seconds) == TEXTS.repeats


def test_our_dpo_trains_on_both_answers_of_every_pair_and_reads_the_prompt_once():
    done, pairs = done_here(dpo.sides(PAIRS)[0], PAIRS), PAIRS.items()
    answers = sum(len(s.tokens) for pair in pairs for s in pair.sequences)
    assert done.tokens == {"trained": answers, "read": answers + sum(len(pair.chosen.prompt) for pair in pairs)}


@pytest.mark.parametrize(("side", "work", "copies"), [(sft.sides(TEXTS)[0], TEXTS, 4), (dpo.sides(PAIRS)[0], PAIRS, 5)], ids=["sft", "dpo"])
def test_the_state_of_a_training_is_weights_gradients_two_moments_and_a_reference(side, work, copies):
    sizes = [p.numel() for p in load_policy("tiny", "float32").parameters()]
    assert done_here(side, work).state_bytes == 4 * (copies * sum(sizes) + len(sizes))  # AdamW also counts each weight's steps


@needs_trl
@pytest.mark.parametrize("side", [side for kind in (sft.sides(BF16), dpo.sides(BF16)) for side in kind[1:]], ids=lambda s: f"{s.module}, {s.name}")
def test_a_pass_of_trl_reads_and_trains_the_same_tokens_and_finds_them_as_likely(side):
    ours, work = (sft.sides(TEXTS)[0], TEXTS) if side.module == "trl_sft" else (dpo.sides(PAIRS)[0], PAIRS)
    peer = done_here(side, replace(work, dtype="bfloat16" if side.setting == "bf16 weights" else "float32"))
    assert len(peer.seconds) == work.repeats
    report(done_here(ours, work), peer)


def test_a_conversations_length_is_log_normal_between_its_bounds():
    novella = Novella(lambda text: text.split(), seed=1)
    sizes = [sum(len(m.content.split()) for m in c.messages) for c in novella.conversations(300, 20, 400)]
    assert 15 <= min(sizes) < 30 and 300 < max(sizes) <= 410
    assert np.median(sizes) == pytest.approx((20 * 400) ** 0.5, rel=0.15)
    assert np.std(np.log(sizes)) == pytest.approx(np.log(20) / 4, rel=0.1)


def test_the_same_seed_makes_the_same_texts_and_another_others():
    assert TEXTS.items() == Conversations(**SHORT).items() != replace(TEXTS, seed=1).items()
    assert PAIRS.items() == Pairs(**SHORT).items() != replace(PAIRS, seed=1).items()


def test_a_file_takes_the_place_of_the_novella_and_what_is_too_long_is_left_out(tmp_path):
    file = tmp_path / "texts.jsonl"
    rows = [{"prompt": f"{i}?", "completion": "word" * n} for i, n in enumerate([1, 2, 400, 3])]
    file.write_text("\n".join(map(json.dumps, rows)))
    work = replace(TEXTS, data=str(file), steps=1, per_step=3)
    assert sorted(len(s.tokens) for s in work.items()) == [len("word" * n) + 2 for n in (1, 2, 3)]
    with pytest.raises(UserError, match="3 of the 4 texts can be used"):
        replace(work, steps=2).items()


# ----------------------------------------------------------------------------------------------------------------- vocabulary


def test_a_larger_vocabulary_adds_its_embedding_with_gradient_and_moments_to_the_state_of_every_side():
    done = [done_here(side, SIZES) for side in vocabulary.sides(SIZES)]
    small, large = ({d.state_bytes for d in half} for half in (done[::2], done[1::2]))
    assert len(small) == 1 and {large.pop() - small.pop()} == {512 * 64 * 4 * 4}
    assert {d.tokens["trained"] for d in done} == {19}


def test_a_head_of_its_own_is_a_second_embedding():
    side = vocabulary.sides(SIZES)[0]
    tied, untied = (done_here(side, replace(SIZES, tied=tied)).state_bytes for tied in (True, False))
    assert untied - tied == 4 * (4 * 512 * 64 + 1)


# -------------------------------------------------------------------------------------------------------------------- reports


def done(seconds: tuple[float, ...] = (1.0,), cpu: tuple[float, ...] = (1.0,), read: int = 100, **more) -> Done:
    return Done(seconds, cpu, {"trained": 10, "read": read}, **more)


def test_sides_that_did_different_work_are_no_comparison():
    with pytest.raises(ValueError, match="different work"):
        report(done(), done(read=99))


def test_sides_that_found_the_same_tokens_more_or_less_likely_are_no_comparison():
    report(done(nll_nats=2.0), done(nll_nats=2.0009))
    with pytest.raises(ValueError, match="compute the same"):
        report(done(nll_nats=2.0), done(nll_nats=2.003))


def test_a_ratio_is_of_medians_and_its_interval_holds_every_pair_of_repeats():
    ours = done((1.0, 2.0, 4.0), (1.0, 1.0, 1.0), peak_bytes=2)
    peer = done((6.0, 3.0, 8.0), (3.0, 5.0, 4.0), peak_bytes=5)
    assert Ratios.of(peer, ours) == Ratios((3.0, 3.0 / 4.0, 8.0), 4.0, 2.5)


def test_the_row_of_a_peer_says_how_much_more_it_took():
    ours, peer = done((2.0,), (4.0,), peak_bytes=10**9), done((6.0,), (5.0,), peak_bytes=25 * 10**8)
    _, _, row = report(ours, peer).rows
    assert row == ["peer", "6.00 [6.00 6.00]", "5.00", "16.7", "2.50", "3.00 [3.00 3.00]", "1.25", "2.50"]


def test_sections_are_appended_behind_one_header(tmp_path):
    page = tmp_path / "BENCHMARKS.md"
    for _ in range(2):
        report(done(peak_bytes=1), done(peak_bytes=2)).append_to(page)
    text = page.read_text()
    assert text.count("# Benchmarks\n") == 1
    assert text.count(": a title\n") == 2


def test_a_missing_peer_is_named_before_anything_is_measured():
    def sides(work: Work) -> list[Side]:
        return [Side("ours", "no_such_module"), Side("theirs", "no_such_module", needs="no_such_package")]

    with pytest.raises(UserError, match="no_such_package is not installed"):
        measure("", "", Options(TINY), sides)


def test_only_the_peers_that_are_named_run_and_an_unknown_name_is_refused():
    def sides(work: Work) -> list[Side]:
        return [Side("posttrain", "posttrain_sampling"), *(Side(name, "no_such_module", needs="no_such_package") for name in ("fast", "slow"))]

    with pytest.raises(UserError, match="no peer is called 'quick': --only takes some of fast; slow"):
        measure("", "", Options(TINY, only=("quick",)), sides)
    assert [side.name for side in _chosen(sides(TINY), Options(TINY, only=("slow",)))] == ["posttrain", "slow"]
    assert [side.name for side in _chosen(sides(TINY), Options(TINY))] == ["posttrain", "fast", "slow"]
    assert [side.name for side in _chosen(sides(TINY), Options(TINY, peers=False))] == ["posttrain"]


def test_the_program_measures_our_side_in_a_process_of_its_own_and_prints_json(capsys):
    main("benchmarks.sampling", "sampling", "", Attempts(), sampling.sides, [*TINY_FLAGS, "--no-peers", "--json"])
    printed = json.loads(capsys.readouterr().out)
    ours = printed["sides"]["posttrain"]
    assert ours["tokens"]["sampled"] == 4
    assert ours["tokens_per_s"] == pytest.approx(4 / ours["seconds"][0])
    assert ours["peak_bytes"] > 10**8
    assert printed["machine"]["versions"]["torch"]


@pytest.mark.parametrize(
    ("work", "flags"),
    [
        (TINY, "--samples 1"),
        (TINY, "--tokens 0"),
        (TINY, "--threads -1"),
        (TINY, "--model no-such-model"),
        (TEXTS, "--steps 0"),
        (PAIRS, "--longest 10"),
        (PAIRS, "--data no-such-file.jsonl"),
        (TEXTS, "--longest 100000"),
        (SIZES, "--sizes 512 10"),
        (SIZES, "--width 65"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_refused_in_one_sentence(work, flags, capsys):
    module = {Attempts: sampling, Conversations: sft, Pairs: dpo, Vocabularies: vocabulary}[type(work)]
    with pytest.raises(SystemExit) as end:
        main(module.__name__, "", "", work, module.sides, flags.split())
    assert end.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize("module", [grpo_step, sampling, sft, dpo, vocabulary])
def test_help_says_how_each_side_was_set(module, capsys):
    with pytest.raises(SystemExit) as end:
        main(module.__name__, "", module.__doc__, TINY, module.sides, ["--help"])
    assert end.value.code == 0
    assert "The same for all" in capsys.readouterr().out
