"""An evaluation as a log of Inspect (UK AISI's inspect_ai), which its viewer, its reader and its data frames take.

Version 2 of the log, as JSON or as a `.eval` file: a zip of `header.json`, a file for each sample, their summaries and what
they come to over epochs. An attempt is an epoch. What could not be scored has the value NaN, Inspect's own sign for it, and
an attempt whose machinery failed has an error and no score; neither is in any metric, there or here. The metrics are ours,
with their 95% interval over problems. Exact token ids and log-probs stand in each output's metadata. Written without
inspect_ai: it need not be installed.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import posttrain
from posttrain.evals.measure import Evaluation
from posttrain.evals.records import Attempt, plain
from posttrain.runs.folder import disk_errors, write_atomically
from posttrain.types import Message, Problem

SAMPLING = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "max_tokens": "max_tokens"}
"""Our settings and what Inspect calls them."""


@dataclass(frozen=True)
class InspectLog:
    """One evaluation, on its way to Inspect."""

    evaluation: Evaluation
    model: str
    created: datetime
    """With its time zone."""
    settings: Mapping[str, Any]
    """What the attempts depend on, as the records have it."""

    def write(self, path: Path) -> None:
        """A `.eval` file, or JSON where the name ends in `.json`."""
        if path.suffix == ".json":
            write_atomically(path, json.dumps({**self.header(), "samples": list(self.samples()), "reductions": self.reductions()}))
            return
        work = path.with_name(f".{path.name}.partial")
        with disk_errors(path.parent):
            try:
                self._write_zip(work)
                work.replace(path)
            finally:
                work.unlink(missing_ok=True)

    def _write_zip(self, path: Path) -> None:
        header, summaries = self.header(), []
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("_journal/start.json", json.dumps({name: header[name] for name in ("version", "eval", "plan")}))
            for sample in self.samples():
                file.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
                summaries.append(_summary(sample))
            file.writestr("_journal/summaries/1.json", json.dumps(summaries))
            file.writestr("summaries.json", json.dumps(summaries))
            file.writestr("reductions.json", json.dumps(self.reductions()))
            file.writestr("header.json", json.dumps(header))

    # ------------------------------------------------------------------------------------------------------------- parts

    def header(self) -> dict[str, Any]:
        """The log without its samples."""
        when = self.created.isoformat()
        return {
            "version": 2, "status": "success", "eval": self._spec(when), "plan": {"name": "plan", "steps": [{"solver": "generate", "params": {}}]},
            "results": self._results(), "stats": {"started_at": when, "completed_at": when, "model_usage": _added(self._usages())},
        }  # fmt: skip

    def samples(self) -> Iterator[dict[str, Any]]:
        """Every attempt, epoch by epoch, as Inspect orders them."""
        for epoch in range(max(len(record.attempts) for record in self.evaluation.records)):
            for record in self.evaluation.records:
                if epoch < len(record.attempts):
                    yield self._sample(record.problem, epoch + 1, record.attempts[epoch])

    def reductions(self) -> list[dict[str, Any]]:
        """The mean score of each problem over its epochs; one without a scored attempt has none."""
        scored = [record for record in self.evaluation.records if record.n_scored]
        means = [{"sample_id": record.problem.id, "value": record.rate} for record in scored]
        return [{"scorer": self.evaluation.task, "reducer": "mean", "samples": means}]

    def _spec(self, when: str) -> dict[str, Any]:
        e, drawn = self.evaluation, self.evaluation.sampling or self.settings
        off = {"top_k": 0, "top_p": 1.0}
        named = {theirs: drawn[ours] for ours, theirs in SAMPLING.items() if ours in drawn and drawn[ours] != off.get(ours)}
        return {
            "eval_id": self._id("eval"), "run_id": self._id("run"), "task_id": self._id("task"), "created": when, "task": e.task, "model": self.model,
            "dataset": {"name": e.task, "samples": len(e.records), "sample_ids": [record.problem.id for record in e.records]},
            "config": {"epochs": e.samples, "epochs_reducer": ["mean"]}, "model_generate_config": {**named, "seed": e.seed},
            "scorers": [{"name": e.task}], "packages": {"posttrain": posttrain.__version__},
            "metadata": plain({"settings": self.settings, "notes": e.notes}),
        }  # fmt: skip

    def _results(self) -> dict[str, Any]:
        e = self.evaluation
        n = len(e.records) * e.samples
        found = {q.name: q.measurement for q in e.quantities}
        values = {name: m.value for name, m in found.items()} | {
            "stderr": found["accuracy"].stderr, "accuracy_low": found["accuracy"].low, "accuracy_high": found["accuracy"].high,
        }  # fmt: skip
        metrics = {name: {"name": name, "value": value} for name, value in values.items() if math.isfinite(value)}
        scored = sum(record.n_scored > 0 for record in e.records)
        score = {
            "name": e.task, "scorer": e.task, "reducer": "mean", "metrics": metrics,
            "scored_samples": scored, "unscored_samples": len(e.records) - scored,
        }  # fmt: skip
        return {"total_samples": n, "completed_samples": n - sum(a.failed for r in e.records for a in r.attempts), "scores": [score]}

    def _sample(self, problem: Problem, epoch: int, attempt: Attempt) -> dict[str, Any]:
        rollout, usage = attempt.rollout, _usage(attempt)
        asked, said = ([_message(message) for message in messages] for messages in (problem.messages, rollout.messages))
        sample = {
            "id": problem.id, "epoch": epoch, "input": asked, "target": problem.answer, "messages": [*asked, *said],
            "output": self._output(attempt), "metadata": plain(problem.data), "store": {}, "events": [], "attachments": {},
            "model_usage": {self.model: usage} if usage else {}, "uuid": self._id(problem.id, str(epoch)),
        }  # fmt: skip
        if attempt.failed:
            return sample | {"error": {"message": rollout.error, "traceback": rollout.error, "traceback_ansi": rollout.error}}
        if rollout.outcome == "truncated":
            limit = self.evaluation.sampling.get("max_tokens", self.settings.get("max_tokens", rollout.n_tokens))
            sample["limit"] = {"type": "token", "limit": limit}
        return sample | {"scores": {self.evaluation.task: _score(attempt)}}

    def _output(self, attempt: Attempt) -> dict[str, Any]:
        rollout, usage = attempt.rollout, _usage(attempt)
        last = next((m for m in reversed(rollout.messages) if m.role == "assistant"), None)
        reason = {"terminated": "stop", "truncated": "max_tokens", "error": "unknown"}[rollout.outcome]
        exact = [
            plain({"prompt_token_ids": c.prompt_token_ids, "token_ids": c.token_ids, "logprobs": c.sampling_logprobs}) for c in rollout.completions
        ]
        known = {"completions": exact, "readings": plain(rollout.readings)}
        metadata = {name: value for name, value in known.items() if value}
        return {
            "model": self.model, "choices": [{"message": _message(last), "stop_reason": reason}] if last else [], "completion": rollout.text,
            **({"usage": usage} if usage else {}), **({"metadata": metadata} if metadata else {}),
        }  # fmt: skip

    def _usages(self) -> Iterator[dict[str, Any]]:
        yield from ({self.model: usage} for r in self.evaluation.records for a in r.attempts if (usage := _usage(a)))

    def _id(self, *parts: str) -> str:
        """The same evaluation has the same ids whenever it is written."""
        content = [self.model, self.evaluation.task, self.evaluation.seed, plain(self.settings), self.created.isoformat(), *parts]
        return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:22]


def _score(attempt: Attempt) -> dict[str, Any]:
    score = attempt.score
    reason = {"reason": "scoring_failed"} if score.is_unscored else {}
    parts = {name: value for name, value in score.parts.items() if math.isfinite(value)}
    return {"value": score.value, "answer": attempt.rollout.text, "explanation": score.explanation, "metadata": parts, **reason}


def _usage(attempt: Attempt) -> dict[str, int] | None:
    """Tokens read and written, every turn reading anew; None where nothing is known of them."""
    rollout = attempt.rollout
    if rollout.completions:
        read = sum(len(c.prompt_token_ids) for c in rollout.completions)
    elif rollout.usage:
        read = rollout.usage.prompt_tokens
    else:
        return None
    return {"input_tokens": read, "output_tokens": rollout.n_tokens, "total_tokens": read + rollout.n_tokens}


def _added(usages: Iterator[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, dict[str, int]] = {}
    for usage in usages:
        for model, counts in usage.items():
            known = total.setdefault(model, dict.fromkeys(counts, 0))
            total[model] = {name: known[name] + count for name, count in counts.items()}
    return total


def _message(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        found["tool_calls"] = [
            {"id": call.id or f"call_{i}", "function": call.name, "arguments": plain(call.arguments), "type": "function"}
            for i, call in enumerate(message.tool_calls)
        ]
    if message.tool_call_id:
        found["tool_call_id"] = message.tool_call_id
    return found


def _summary(sample: Mapping[str, Any]) -> dict[str, Any]:
    """What a list of samples shows of one."""
    kept = {name: sample[name] for name in ("id", "epoch", "input", "target", "scores", "model_usage", "uuid") if name in sample}
    error = {"error": sample["error"]["message"]} if "error" in sample else {}
    limit = {"limit": sample["limit"]["type"]} if "limit" in sample else {}
    return {**kept, **error, **limit, "completed": True, "message_count": len(sample["messages"])}
