"""What experiments in made worlds share: a random model over words, SFT on texts made here, DPO on pairs and GRPO on a task
made here, all taken up where they stopped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from posttrain.agents.loop import ModelAgent
from posttrain.algorithms import dpo, grpo, sft
from posttrain.batching import TokenSequence
from posttrain.engine.local import LocalEngine
from posttrain.policy.hf import Policy
from posttrain.policy.words import WordModelConfig, write_word_model
from posttrain.renderer import Renderer
from posttrain.training.job import Job
from posttrain.training.loop import StepResult
from posttrain.training.pairs import PairTokens
from posttrain.training.reference import Reference
from posttrain.training.stream import Stream
from posttrain.types import Sampling, Task


def taught(renderer: Renderer, prompt: str, answer: str) -> TokenSequence:
    """The answer behind its prompt, its end included: what the renderer makes of the two messages, without its templates (which
    take a millisecond for each of a hundred thousand)."""
    return TokenSequence(tuple(renderer.encode(prompt)), (*renderer.encode(answer), renderer.stop_token_ids[-1]))


def words_model(folder: Path, words: Sequence[str], config: WordModelConfig) -> str:
    """The folder of a random model, written if it is not there yet."""
    if not (folder / "config.json").exists():
        write_word_model(folder, words, config)
    return str(folder)


async def fine_tune(config: sft.Config, texts: Iterable[tuple[str, str]], ends: bool = True) -> Policy:
    """SFT, or the rest of it, on (prompt, answer) pairs; the model it ends with. Without `ends` it does not learn to stop."""
    job = Job.open(config, "sft")
    policy = job.load_policy()
    made = (taught(policy.renderer, *pair) for pair in texts)
    conversations = [[s if ends else replace(s, tokens=s.tokens[:-1])] for s in made]
    learner = sft.Learner(job.trained(policy), conversations, [], config)
    await job.run_steps(learner.trained, lambda number: sft.step(learner, number))
    return policy


async def prefer(config: dpo.Config, pairs: Sequence[PairTokens], reference: str = "") -> Policy:
    """DPO, or the rest of it, on these pairs; the model it ends with. Log-ratios are to `reference`, or to the model that the run began with."""
    job = Job.open(config, "dpo")
    trained = job.trained(job.load_policy())

    async def take() -> tuple[Sequence[PairTokens], None]:
        stream = Stream(pairs, config.seed, trained.position)
        taken, _ = stream.take(config.pairs_per_step)
        trained.position = stream.position
        return taken, None

    learner = dpo.Learner(trained, Reference.of(trained.policy, reference or config.model, config.dtype, False), take, [], config)
    await job.run_steps(trained, lambda number: dpo.step(learner, number))
    return trained.policy


async def reinforce(config: grpo.Config, task: Task, reference: str = "") -> Policy:
    """GRPO, or the rest of it, on a task; the model it ends with. Of the rollouts only what the metrics say is kept.

    The KL is to `reference`, or to the model that the run began with.
    """
    job = Job.open(config, "grpo")
    policy = job.load_policy()
    reference = Reference.of(policy, reference or config.model, config.dtype, False) if config.kl_coef else None
    agent = ModelAgent(LocalEngine(policy), policy.renderer, Sampling(config.temperature, config.max_tokens))
    learner = grpo.Learner(job.trained(policy), agent, task, task.problems("train"), reference, config)

    async def step(number: int) -> StepResult:
        return replace(await grpo.step(learner, is_first=number == 1), rollouts=[])

    await job.run_steps(learner.trained, step)
    return policy
