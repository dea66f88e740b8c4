"""`posttrain rlhf`: the whole pipeline on the tiny model, taken up again, and its page."""

from __future__ import annotations

import asyncio
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean
from typing import Any
from xml.etree import ElementTree

import pytest

from posttrain import cli
from posttrain.algorithms import dpo
from posttrain.evals.frontier_page import page, paths_of, tables_of
from posttrain.policy.hf import load_policy
from posttrain.policy.optim import AdamWConfig
from posttrain.types import Message

WORDS = "cat dog sun moon sea sky tree bird fish king queen bread milk snow rain wind fire gold iron salt tea rice corn wool"
SETTINGS = (
    "--model", "tiny", "--dtype", "float32", "--gold", "length:3", "--made-pairs", "16", "--reward-steps", "3", "--dpo-steps", "3",
    "--rl-steps", "3", "--answers-per-step", "16", "--group-size", "4", "--max-tokens", "8", "--problems", "3", "--samples", "4",
    "--learning-rate", "2e-3", "--documents", "2", "--heldout-frac", "0.25", "--methods", "ppo", "dpo", "online_dpo", "raft",
)  # fmt: skip


def command(folder: Path, *more: object) -> list[str]:
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Say something about a {word}."}) + "\n" for word in WORDS.split()))
    return ["rlhf", "--task", str(prompts), "--out", str(folder / "run"), *SETTINGS, *(str(word) for word in more)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the pipeline has run from one end to the other."""
    folder = tmp_path_factory.mktemp("rlhf")
    assert cli.run(command(folder)) == cli.DONE
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run" / "rlhf.json").read_text())


def test_every_model_is_measured_on_the_same_prompts_with_n_and_intervals(found: dict[str, Any]) -> None:
    assert [p["name"] for p in found["points"]] == ["start", "ppo", "dpo", "online_dpo", "raft"]
    for p in found["points"]:
        for name in ("proxy", "gold", "kl_nats", "length_tokens"):
            assert p[name]["n"] == 3 and p[name]["low"] <= p[name]["value"] <= p[name]["high"], name
        ece = p["choices"]["ece"]
        assert ece["error"]["n"] == 32 and ece["error"]["low"] <= ece["error"]["value"] <= ece["error"]["high"] and 0 <= ece["by_chance"] < ece["by_chance_high"]
    start, *others = found["points"]
    assert start["kl_nats"]["value"] == pytest.approx(0, abs=1e-5) and start["heldout_change"] is start["untouched_change"] is start["choices_change"] is None
    for p in others:
        change = p["choices_change"]["ece"]
        assert change["n"] == 32 and change["low"] <= change["value"] <= change["high"]
        assert change["value"] == pytest.approx(p["choices"]["ece"]["error"]["value"] - start["choices"]["ece"]["error"]["value"])
    assert all(p["heldout_change"]["n"] == 2 and p["untouched_change"]["n"] == 3 for p in others)
    assert all(p["kl_nats"]["value"] > 0.01 for p in others), "training moved every model"


def test_the_path_of_each_run_begins_at_the_start_and_shows_proxy_and_gold(found: dict[str, Any]) -> None:
    assert set(found["paths"]) == {"ppo", "dpo", "online_dpo", "raft"}
    for name, prompts, steps in (("ppo", 8, 3), ("online_dpo", 4, 3), ("raft", 4, 3), ("dpo", 4, 4)):
        path = found["paths"][name]
        assert [w["step"] for w in path] == [*range(1, steps + 1)]
        assert path[0]["kl_nats"]["value"] == pytest.approx(0, abs=1e-5) and max(w["kl_nats"]["value"] for w in path) > 0.01
        assert all(w["kl_nats"]["n"] == prompts and w["kl_nats"]["low"] <= w["kl_nats"]["value"] <= w["kl_nats"]["high"] for w in path)
        for w in path:
            assert w["reward"]["n"] == w["gold"]["n"] == prompts and 0 <= w["gold"]["value"] <= 1
            assert w["gold"]["low"] <= w["gold"]["value"] <= w["gold"]["high"]


def test_the_logged_means_are_those_of_the_path(found: dict[str, Any], folder: Path) -> None:
    for name in ("ppo", "online_dpo", "raft"):
        rows = [json.loads(line) for line in (folder / "run" / name / "metrics.jsonl").read_text().splitlines()]
        for row, w in zip(rows, found["paths"][name], strict=True):
            assert w["reward"]["value"] == pytest.approx(row["reward/mean"]) and w["gold"]["value"] == pytest.approx(row["reward/part_gold"])
            assert w["kl_nats"]["value"] == row["policy/kl_ref_nats"]


def test_dpo_is_looked_at_on_its_way_with_answers_that_are_counted_and_kept_and_learns_as_without(folder: Path, found: dict[str, Any], tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (folder / "run" / "dpo_path.jsonl").read_text().splitlines()]
    assert [len(asked["attempts"]) for row in rows for asked in row["answers"]] == [4] * 4 * 4 and "; 64 answers were drawn to show DPO's path" in found["about"]
    for row in rows:
        assert row["waypoint"]["reward"]["value"] == pytest.approx(fmean(a["score"] for asked in row["answers"] for a in asked["attempts"]), abs=1e-6)
        assert len({asked["prompt"] for asked in row["answers"]}) == 4
    settings = {"data": str(folder / "run" / "pairs.jsonl"), "steps": 3, "optim": AdamWConfig(2e-3, warmup_steps=3), "heldout_frac": 0.25}
    asyncio.run(dpo.train(dpo.Config(model="tiny", dtype="float32", out=tmp_path / "whole", **settings)))
    weights = [run / "checkpoints" / "step_000003" / "model.safetensors" for run in (folder / "run" / "dpo", tmp_path / "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_ppo_raft_and_online_dpo_sample_as_many_answers_and_are_judged_alike(folder: Path) -> None:
    configs = [json.loads((folder / "run" / name / "config.json").read_text()) for name in ("ppo", "online_dpo", "raft")]
    assert {c["reward"] for c in configs} == {f"model:{folder / 'run' / 'reward_model'}"} and {c["gold"] for c in configs} == {"length:3"}
    assert {c.get("problems_per_step", c.get("pairs_per_step")) * c["group_size"] * c["steps"] for c in configs} == {16 * 3}


def test_best_of_one_is_the_start(found: dict[str, Any]) -> None:
    one, start = found["best_of_n"][0], found["points"][0]
    assert (one["n"], one["kl_bound_nats"]) == (1, 0)
    assert one["proxy"]["value"] == pytest.approx(start["proxy"]["value"]) and one["gold"]["value"] == pytest.approx(start["gold"]["value"])
    proxies = [b["proxy"]["value"] for b in found["best_of_n"]]
    assert proxies == sorted(proxies)


# ------------------------------------------------------------------------------------------------------------------ the page


class Reader(HTMLParser):
    """The tags of a page, what it would fetch, and its cells."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.scripts: list[str | None] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "script":
            self.scripts.append(dict(attrs).get("type"))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "td" and data.strip():
            self.cells.append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


def pictures(text: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(f"<svg{part.split('</svg>')[0]}</svg>") for part in text.split("<svg")[1:]]


def test_the_page_stands_alone(folder: Path) -> None:
    text = (folder / "run" / "report.html").read_text()
    reader = read(text)
    assert text.startswith("<!doctype html>") and reader.fetched == [] and "url(" not in text and "@import" not in text
    assert reader.scripts == ["application/json"], "data, and no program"


def test_the_page_draws_the_frontier_and_the_over_optimisation_of_each_run(folder: Path, found: dict[str, Any]) -> None:
    drawn = pictures((folder / "run" / "report.html").read_text())
    titles = [svg.attrib["aria-label"] for svg in drawn]
    assert [t.split(" (")[0] for t in titles] == [
        "proxy reward against KL", "gold reward against KL", "ppo along its run", "dpo along its run", "online_dpo along its run", "raft along its run",
        "best of n answers of the start",
    ]  # fmt: skip
    assert all("n = " in title or "n ≤ " in title for title in titles)
    space = "{http://www.w3.org/2000/svg}"
    for svg in drawn[:2]:
        assert len(svg.findall(f"{space}circle")) == 2 * 5, "a dot for each model, and one in the legend"
    for svg in drawn[2:]:
        lines = svg.findall(f"{space}polyline")
        n = 4 if svg.attrib["aria-label"].startswith("dpo") else 3
        assert [len(line.attrib["points"].split()) for line in lines] == [n, n], "proxy and gold at every step, or every n"
        assert len(svg.findall(f"{space}polygon")) == 2, "with their intervals"
    for svg in drawn:
        places = [p for line in svg.iter(f"{space}polyline") for p in line.attrib["points"].split()]
        assert all(60 <= float(x) <= 620 and 70 <= float(y) <= 345 for x, y in (p.split(",") for p in places)), "within the frame"


def test_every_number_of_the_page_stands_with_n_and_its_interval(folder: Path, found: dict[str, Any]) -> None:
    cells = read((folder / "run" / "report.html").read_text()).cells
    for title, header, rows in tables_of(found):
        assert header[-1] == "n", title
        assert all(cell in cells for row in rows for cell in row if cell)
    for title, _, rows in paths_of(found):
        assert all(cell in cells for row in rows for cell in row) and all("[" in cell for row in rows for cell in row[1:4]), title
    (_, _, gained), (_, _, lost), (_, _, learned) = tables_of(found)
    assert all("[" in cell for row in gained for cell in row[1:4]) and all("[" in cell for row in lost[1:] for cell in (row[1], row[4]))
    assert all("[" in row[7] and "by chance" in row[7] for row in lost) and "[" in learned[0][2] and "by chance" in learned[0][2]
    assert lost[0][8] == "" and all("[" in row[8] for row in lost[1:]), "the change of the calibration error"


def test_a_pipeline_without_gold_has_no_gold_picture_and_no_invented_number(found: dict[str, Any]) -> None:
    without = json.loads(json.dumps(found))
    for part in (*without["points"], *without["best_of_n"], *(w for path in without["paths"].values() for w in path)):
        part["gold"] = None
    del without["spread"]["gold"]
    text = page(without)
    assert [svg.attrib["aria-label"].split(" (")[0] for svg in pictures(text)][:2] == ["proxy reward against KL", "ppo along its run"]
    assert "gold reward against" not in text and "none" in read(text).cells


def test_what_a_user_named_cannot_break_out_of_the_page(found: dict[str, Any]) -> None:
    text = page({**found, "about": "</script><script>alert(1)</script>"})
    assert read(text).scripts == ["application/json"] and "<script>alert" not in text


# -------------------------------------------------------------------------------------------------------------- taken up again


def test_the_same_command_again_goes_on_and_runs_no_finished_stage_twice(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder / "run"
    before = (run / "rlhf.json").read_text()
    stamps = {file: file.stat().st_mtime_ns for name in ("reward_model", "ppo", "dpo") for file in (run / name).rglob("*") if file.is_file()}
    pairs = (run / "pairs.jsonl").stat().st_mtime_ns
    shutil.rmtree(run / "raft")  # as if it had been killed there
    for file in ("rlhf.json", "report.html"):
        (run / file).unlink()
    capsys.readouterr()
    assert cli.run(command(folder)) == cli.DONE
    said = capsys.readouterr().err
    assert "reject 3/3" in said and not any(f"{stage} 3/3" in said for stage in ("ppo", "dpo", "reward-model"))
    assert stamps == {file: file.stat().st_mtime_ns for file in stamps} and pairs == (run / "pairs.jsonl").stat().st_mtime_ns
    assert (run / "rlhf.json").read_text() == before


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (("--seed", 1), "seed (0 there, 1 now)"),
        (("--reward-steps", 4), "reward_steps (3 there, 4 now)"),
        (("--gold", "length:4"), "gold ('length:3' there, 'length:4' now)"),
        (("--lora-rank", 2), "lora_rank (0 there, 2 now)"),
    ],
)
def test_a_changed_flag_is_refused_and_named(more: tuple[object, ...], named: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.stat().st_mtime_ns for file in (folder / "run").rglob("*") if file.is_file()}
    capsys.readouterr()
    assert cli.run(command(folder, *more)) == cli.USAGE
    said = capsys.readouterr().err
    assert named in said and len(said.strip().splitlines()) == 1
    assert before == {file: file.stat().st_mtime_ns for file in before}


REFUSED = {
    "nothing to learn from": ((), "--data"),
    "prompts without a judge": (("--task", "prompts.jsonl"), "--gold"),
    "an unknown method": (("--task", "arithmetic", "--methods", "grpo"), "grpo"),
    "a method twice": (("--task", "arithmetic", "--methods", "ppo", "ppo"), "--methods"),
    "groups that do not fit": (("--task", "arithmetic", "--answers-per-step", "10", "--group-size", "4"), "--answers-per-step"),
    "no steps": (("--task", "arithmetic", "--rl-steps", "0"), "--rl-steps"),
    "a KL below 0": (("--task", "arithmetic", "--kl-coef", "-1"), "--kl-coef"),
    "all pairs held out": (("--task", "arithmetic", "--heldout-frac", "1"), "--heldout-frac"),
    "no reward per nat": (("--task", "arithmetic", "--beta", "0"), "--beta"),
    "data that is not there": (("--data", "nowhere.jsonl"), "nowhere.jsonl"),
    "a gold reward that there is not": (("--task", "arithmetic", "--gold", "karma:5"), "karma:5"),
    "a gold reward that judges no answer alone": (("--task", "arithmetic", "--gold", "pairwise:tiny"), "judge:tiny"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_flags_are_refused_in_one_sentence(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv, named = REFUSED[case]
    assert cli.run(["rlhf", "--model", "tiny", "--out", str(tmp_path / "run"), *argv]) == cli.USAGE
    said = capsys.readouterr().err.strip().splitlines()
    assert named in said[-1] and sum(line.startswith("posttrain: ") for line in said) == 1


@pytest.mark.parametrize("flags", [("--gold", "karma:5"), ("--gold", "pairwise:tiny")])
def test_a_gold_reward_that_cannot_be_had_is_said_before_anything_is_trained(flags: tuple[str, ...], tmp_path: Path) -> None:
    assert cli.run(["rlhf", "--model", "tiny", "--task", "arithmetic", "--out", str(tmp_path / "run"), *flags]) == cli.USAGE
    assert not (tmp_path / "run").exists()


def test_unusable_pairs_are_refused_or_left_out_of_every_stage_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": f"{a}+{b}?", "chosen": str(a + b), "rejected": f"{a * b} it is"} for a in range(4) for b in range(4)]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": "x", "chosen": "y", "rejected": "y"}]))
    settings = [*SETTINGS[: SETTINGS.index("--gold")], *SETTINGS[SETTINGS.index("--gold") + 2 : SETTINGS.index("--methods")], "--sft-steps", "1", "--methods", "dpo"]
    argv = ["rlhf", "--data", str(data), "--out", str(tmp_path / "run"), *settings]
    assert cli.run(argv) == cli.USAGE and "line 17: has the same answer as chosen and rejected" in capsys.readouterr().err
    assert cli.run([*argv[:-len(settings) - 1], str(tmp_path / "other"), *settings, "--when-bad", "drop"]) == cli.DONE
    for stage in ("reward_model", "dpo"):
        assert json.loads((tmp_path / "other" / stage / "data.json").read_text())["left_out"] == {"has the same answer as chosen and rejected": 1}
    assert len((tmp_path / "other" / "sft_data.jsonl").read_text().splitlines()) == 16


def test_the_tools_of_a_pair_are_read_with_its_prompt_at_every_stage(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}}]
    rows = [{"prompt": f"{a}+{b}?", "chosen": str(a + b), "rejected": f"{a * b} it is", "tools": tools} for a in range(5) for b in range(5)]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    short = ["--sft-steps", "1", "--reward-steps", "1", "--rl-steps", "1", "--answers-per-step", "4", "--group-size", "2", "--max-tokens", "4", "--problems", "2"]
    methods = ["--samples", "2", "--documents", "1", "--methods", "ppo", "online_dpo", "raft"]
    assert cli.run(["rlhf", "--model", "tiny", "--dtype", "float32", "--data", str(data), "--out", str(tmp_path / "run"), *short, *methods]) == cli.DONE
    renderer = load_policy("tiny", "float32").renderer
    wanted = {tuple(renderer.prompt((Message("user", row["prompt"]),), tools)) for row in rows}
    for name in ("ppo", "online_dpo", "raft"):
        drawn = [json.loads(line) for line in (tmp_path / "run" / name / "rollouts.jsonl").read_text().splitlines()]
        read = {tuple(c["prompt_token_ids"]) for row in drawn for a in row["attempts"] for c in a["turns"]}
        assert read and read <= wanted, name


def test_preferences_of_a_file_begin_with_sft_on_the_chosen_answers(tmp_path: Path) -> None:
    rows = [{"prompt": f"{a}+{b}?", "chosen": str(a + b), "rejected": f"{a * b} it is"} for a in range(5) for b in range(5)]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = list(SETTINGS)
    settings[settings.index("--gold") : settings.index("--gold") + 2] = []
    assert cli.run(["rlhf", "--data", str(data), "--out", str(tmp_path / "run"), *settings, "--sft-steps", "2", "--methods", "raft"]) == cli.DONE
    talks = [json.loads(line) for line in (tmp_path / "run" / "sft_data.jsonl").read_text().splitlines()]
    assert talks[6] == {"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]}
    config = json.loads((tmp_path / "run" / "raft" / "config.json").read_text())
    assert config["model"] == str(tmp_path / "run" / "sft") and config["task"] == str(tmp_path / "run" / "prompts.jsonl")
    found = json.loads((tmp_path / "run" / "rlhf.json").read_text())
    assert all(p["gold"] is None for p in found["points"]) and found["points"][1]["name"] == "raft"
