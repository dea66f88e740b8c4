"""posttrain's sampling: `LocalEngine`, all prompts asked at once."""

from __future__ import annotations

import asyncio

from benchmarks.work import Attempts, Done, Moment, durations
from posttrain.engine.local import LocalEngine
from posttrain.policy.hf import load_policy
from posttrain.types import Sampling


def run(work: Attempts, setting: str = "") -> Done:
    """All completions for each repeat, with their log-probs. No stop tokens are given, so that none ends early."""
    policy = load_policy(str(work.folder), work.dtype)
    prompts = [policy.renderer.prompt(problem.messages) for problem in work.problems]
    moments, sampled = asyncio.run(_sample(LocalEngine(policy), prompts, work))
    return Done(*durations(moments[work.warmup : -1], moments[work.warmup + 1 :]), {"prompt": sum(map(len, prompts)), "sampled": sampled})


async def _sample(engine: LocalEngine, prompts: list[tuple[int, ...]], work: Attempts) -> tuple[list[Moment], int]:
    """The moments between repeats, and the tokens sampled in the last."""
    moments = [Moment.now()]
    for repeat in range(work.n_repeats):
        sampling = Sampling(1.0, work.tokens, seed=work.seed + repeat)
        groups = await asyncio.gather(*(engine.sample(prompt, work.samples, sampling) for prompt in prompts))
        moments.append(Moment.now())
    return moments, sum(len(completion.token_ids) for group in groups for completion in group)
