"""One forward: what is packed, chunked, sampled or adapted is what it would be alone, dense, trained or bare.

Models are random; *tiny* is a Llama of two layers over bytes, *lanes* the same with heads of 16 numbers, and *smollm2* the
embedded real model. Differences between sampler and trainer depend on the processor: with Intel's MKL in its reproducible
mode they are 0; elsewhere products of very small matrices add in another order when there are few rows.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from posttrain.batching import TokenSequence
from posttrain.engine.local import LocalEngine
from posttrain.policy.head import Head
from posttrain.policy.hf import Policy, load_policy
from posttrain.policy.lora import LoraConfig
from posttrain.policy.optim import AdamWConfig, Optimizer
from posttrain.types import Completion, Message, Sampling
from tests.exact.check import Check
from tests.small_models import LargestResult, dense_head, gradients, mismatch, relative_error, text, write_model

ONE_ROW = 10_000
LANES = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}


@cache
def _tiny() -> Policy:
    return load_policy("tiny", "float32")


def _group(prompt: tuple[int, ...], *lengths: int) -> list[TokenSequence]:
    return [TokenSequence(prompt, text(n, n)) for n in lengths]


def _texts() -> list[TokenSequence]:
    """Two groups that share a prompt, and a text that stands alone."""
    return _group(text(17, 1), 1, 16, 33) + _group(text(5, 2), 40, 3) + _group(text(70, 3), 12)


def _parts(sequences: list[TokenSequence]) -> tuple[Tensor, ...]:
    return _tiny().score(sequences, ONE_ROW)[0].split([len(s.tokens) for s in sequences])


# ----------------------------------------------------------------------------------------------------------------- packing


def packing_leaks_nothing() -> Iterator[Check]:
    before, largest = _texts(), 0.0
    for changed, sequence in enumerate(before):
        after = [*before]
        after[changed] = TokenSequence(sequence.prompt, text(len(sequence.tokens), 99))
        moved = [(a - b).abs().max().item() for a, b in zip(_parts(before), _parts(after), strict=True)]
        largest = max(largest, *moved[:changed], *moved[changed + 1 :])
    yield Check("36", "a text in a row changes: largest change of another text's log-probs, in nats, tiny", 0, largest)


def packing_adds_gradients() -> Iterator[Check]:
    sequences = _texts()
    weights = torch.randn(sum(len(s.tokens) for s in sequences), generator=torch.Generator().manual_seed(0))
    parts = zip(sequences, weights.split([len(s.tokens) for s in sequences]), strict=True)
    alone = [gradients(_tiny(), [sequence], part, ONE_ROW) for sequence, part in parts]
    total = {name: sum(g[name] for g in alone) for name in alone[0]}
    packed = gradients(_tiny(), sequences, weights, ONE_ROW)
    yield Check("36", "gradient of a packed row against the sum of separate ones: relative gradient error, tiny", 0, relative_error(packed, total), 1e-6)
    worst = max(relative_error(gradients(_tiny(), sequences, weights, cut), total) for cut in (30, 60, 90, 130, 200))
    yield Check("17", "the same for the worst of 5 ways to cut the row into batches", 0, worst, 1e-6)


# -------------------------------------------------------------------------------------------------------- sampler, trainer


async def _answers(policy: Policy, prompts: list[tuple[int, ...]], n: int, sampling: Sampling, stops: tuple[int, ...] = ()) -> list[Completion]:
    engine = LocalEngine(policy)
    groups = await asyncio.gather(*(engine.sample(prompt, n, sampling, stops) for prompt in prompts))
    return [completion for group in groups for completion in group]


def _disagreement(policy: Policy, temperature: float) -> float:
    """The largest difference between sampler and trainer over some thousand tokens, in nats."""
    prompts = [text(n, n) for n in (1, 9, 16, 40)]
    return mismatch(policy, asyncio.run(_answers(policy, prompts, 5, Sampling(temperature, 50)))).max().item()


def the_sampler_says_what_the_trainer_says() -> Iterator[Check]:
    words = "sampler's log-probs less the trainer's: largest, in nats,"
    with tempfile.TemporaryDirectory() as folder:
        lanes = load_policy(str(write_model(Path(folder), **LANES)), "float32")
    for temperature in (1.0, 0.7):
        yield Check("27", f"{words} lanes, fp32, T = {temperature}", 0, _disagreement(lanes, temperature), 2e-5)
    yield Check("27", f"{words} tiny, fp32", 0, _disagreement(_tiny(), 1.0), 1e-5)
    yield Check("27", f"{words} tiny, bf16", 0, _disagreement(load_policy("tiny", "bfloat16"), 1.0), 0.1)


def the_sampler_says_what_the_trainer_says_of_a_real_model() -> Iterator[Check]:
    for dtype, tolerance in (("float32", 1e-4), ("bfloat16", 1.0)):
        policy = load_policy("smollm2", dtype)
        prompts = [policy.renderer.prompt((Message("user", question),)) for question in ("What is 17+25?", "Tell me about 3 cats.")]
        answers = asyncio.run(_answers(policy, prompts, 4, Sampling(max_tokens=48), policy.renderer.stop_token_ids))
        claim = f"sampler's log-probs less the trainer's: largest, in nats, smollm2, {dtype}"
        yield Check("27", claim, 0, mismatch(policy, answers).max().item(), tolerance)


# -------------------------------------------------------------------------------------------------------------------- head


def _with_gradients(outputs: tuple[Tensor, Tensor], inputs: list[Tensor], grads: Tensor) -> list[Tensor]:
    """Log-probs, entropies, and the gradients of their weighted sum."""
    return [*outputs, *torch.autograd.grad((torch.stack(outputs) * grads).sum(), inputs)]


def the_blocked_head_is_the_dense_one() -> Iterator[Check]:
    n, width, rows, vocabulary = 600, 8, 1 << 15, (1 << 15) - 64
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(*shape, generator=generator) for shape in ((n, width), (rows, width), (rows,))]
    targets, temperatures = torch.randint(0, vocabulary, (n,), generator=generator), torch.rand(n, generator=generator) + 0.5
    grads = torch.randn(2, n, generator=generator)
    inputs = [x.clone().requires_grad_() for x in values]
    head = Head(inputs[1], inputs[2], vocabulary, scale=0.7, softcap=5.0)
    with LargestResult() as largest:
        blocked = _with_gradients(head.logprobs(inputs[0], targets, temperatures), inputs, grads)
    doubles = [x.double().requires_grad_() for x in values]
    dense = _with_gradients(dense_head(head, *doubles, targets, temperatures), doubles, grads)
    names = ("log-probs", "entropies", "gradient of hidden states", "gradient of the embedding", "gradient of the bias")
    for name, a, b in zip(names, blocked, dense, strict=True):
        error = ((a.double() - b).abs().max() / b.abs().max()).item()
        yield Check("37", f"blocked head in fp32 against the dense one in fp64, largest error over largest value: {name}", 0, error, 1e-5)
    padding = max(g[vocabulary:].abs().max().item() for g in blocked[-2:])
    yield Check("38", "rows of padding in the embedding: largest gradient", 0, padding)
    claim = f"largest tensor in its forward and backward pass, over {n} x {rows} logits"
    yield Check("37", claim, 0.1, largest.numel / (n * rows), relation="<")


# ----------------------------------------------------------------------------------------------------------------- adapter


def without_its_adapter_a_policy_is_the_model_it_began_as() -> Iterator[Check]:
    sequences = _texts()
    initial = _tiny().score(sequences)[0]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        policy = load_policy("tiny", "float32", LoraConfig(rank=4))
    yield Check("39", "LoRA before training: largest change of log-probs, in nats, tiny", 0, _moved(policy, sequences, initial))
    optimizer = Optimizer(policy.parameters(), AdamWConfig(learning_rate=0.01))
    for _ in range(3):
        gradients(policy, sequences, -torch.ones(len(initial)), ONE_ROW)
        optimizer.step()
    assert _moved(policy, sequences, initial) > 0.1
    with policy.as_reference():
        claim = "LoRA after three steps, the adapter off: largest change of log-probs, in nats, tiny"
        yield Check("12", claim, 0, _moved(policy, sequences, initial))


def _moved(policy: Policy, sequences: list[TokenSequence], initial: Tensor) -> float:
    return (policy.score(sequences)[0] - initial).abs().max().item()


CHECKS = (
    packing_leaks_nothing,
    packing_adds_gradients,
    the_sampler_says_what_the_trainer_says,
    the_blocked_head_is_the_dense_one,
    without_its_adapter_a_policy_is_the_model_it_began_as,
)
SLOW_CHECKS = (the_sampler_says_what_the_trainer_says_of_a_real_model,)
