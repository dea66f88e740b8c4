"""Our models in EleutherAI's lm-evaluation-harness: its tasks, our forward. Needs the extra `lm-eval`.

    lm_eval.simple_evaluate(model=PosttrainLM("runs/a"), tasks=["arc_easy"])          from Python
    python -m posttrain.evals.lm_eval_adapter run --model posttrain --model_args model=runs/a --tasks arc_easy

The second is lm-eval's own command line with our model under the name `posttrain`; importing this file registers it. Tokens
are made as lm-eval's `hf` makes them (the tokenizer's own opening token, a context cut from its left), so that the two agree
to rounding; the options of a question share the work of its context. Generation ends at the model's end of turn too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from posttrain.batching import TokenSequence
from posttrain.engine.local import LocalEngine
from posttrain.engine.stops import cut, reached
from posttrain.policy.hf import SCORING_TOKENS, Policy, load_policy
from posttrain.policy.likeliest import likeliest
from posttrain.policy.models import resolve, revision
from posttrain.seeds import fold
from posttrain.types import Sampling, UserError

try:
    import lm_eval.models
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
    from lm_eval.models.utils import normalize_gen_kwargs
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ModuleNotFoundError as error:
    raise UserError(f"lm-eval's tasks need '{error.name}': pip install 'posttrain[lm-eval]'") from error

MAX_GEN_TOKENS = 256
"""What a task that says nothing may generate, as with `hf`."""


@register_model("posttrain")
class PosttrainLM(TemplateLM):
    """A model of ours, as lm-eval asks it: log-likelihoods in nats and whether greedy decoding would say the same, or texts."""

    def __init__(
        self,
        model: str | Policy = "smollm2",
        dtype: str = "auto",
        max_length: int = 0,
        max_tokens: int = SCORING_TOKENS,
        seed: int = 0,
        batch_size: Any = None,
        max_batch_size: Any = None,
        device: Any = None,
    ) -> None:
        """`model`: what `--model` takes, or a loaded policy. `max_length`: of context and continuation, 0 is the model's own;
        `max_tokens`: scored in one row. The last three are lm-eval's, which it always gives; they have no meaning here."""
        super().__init__()
        self.policy = load_policy(model, dtype) if isinstance(model, str) else model
        self.engine = LocalEngine(self.policy)
        self.tokenizer = self.policy.renderer.tokenizer
        self.max_length = max_length or self.policy.max_context
        self.max_tokens, self.seed = max_tokens, seed

    # ----------------------------------------------------------------------------------------------------------- tokens

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has no context: the opening token, else the end of text."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else bos

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """As the tokenizer does by itself, its opening token included; a text that has it already does not get it twice."""
        if add_special_tokens is None and string.startswith(self.tokenizer.decode([self.prefix_token_id])):
            add_special_tokens = False
        return self.tokenizer.encode(string, **({} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}))

    @property
    def tokenizer_name(self) -> str:
        return str(resolve(self.policy.path)).replace("/", "__")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """With the template that training and `posttrain eval` use; without a prompt to generate, the last turn is gone on with."""
        return self.tokenizer.apply_chat_template(
            chat_history, chat_template=self.policy.renderer.template, tokenize=False, add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )  # fmt: skip

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval writes down about the model."""
        n = sum(p.numel() for p in self.policy.model.parameters())
        return {"model_num_parameters": n, "model_dtype": str(self.policy.dtype), "model_sha": revision(resolve(self.policy.path))}

    # ---------------------------------------------------------------------------------------------------------- scoring

    def _loglikelihood_tokens(self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any) -> list[tuple[float, bool]]:
        """The sum over the continuation's tokens; a context that is too long loses its beginning."""
        found = self._scored([(context, continuation) for _, context, continuation in requests])
        for (key, _, _), answer in zip(requests, found, strict=True):
            if key is not None:
                self.cache_hook.add_partial("loglikelihood", key, answer)
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Of whole texts, in windows of the model's context of which each predicts what none before it has."""
        windows = [[make_disjoint_window(pair) for pair in self._windows(*request.args)] for request in requests]
        sums = iter(self._scored([pair for text in windows for pair in text]))
        found = [sum(next(sums)[0] for _ in text) for text in windows]
        for request, value in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, value)
        return found

    def _windows(self, text: str) -> list[tuple[list[int], list[int]]]:
        return list(get_rolling_token_windows(self.tok_encode(text), self.prefix_token_id, self.max_length, context_len=1))

    def _scored(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        """For each context and continuation: the log-likelihood, and whether each token is the likeliest in its place."""
        sequences = [self._sequence(*pair) for pair in pairs]
        if not sequences:
            return []
        sizes = [s.n_predicted for s in sequences]
        logprobs, top, _ = likeliest(self.policy, sequences, 1, self.max_tokens)
        rows = zip(logprobs.split(sizes), top[:, 0].split(sizes), strict=True)
        return [(float(own.double().sum()), bool((own >= best).all())) for own, best in rows]

    def _sequence(self, context: list[int], continuation: list[int]) -> TokenSequence:
        if len(continuation) > self.max_length:
            n = len(continuation)
            raise UserError(f"a continuation has {n} tokens and the model's context holds {self.max_length}: leave its task out")
        whole = (context + continuation)[-(self.max_length + 1) :]
        cut_at = len(whole) - len(continuation)
        return TokenSequence(tuple(whole[:cut_at]), tuple(whole[cut_at:]))

    # ------------------------------------------------------------------------------------------------------- generating

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Texts up to the first of the task's stops, the end of turn or its limit of tokens; greedy unless the task samples.

        All requests share the engine's batches. Repeats of one request differ, where it is sampled.
        """
        found = _finished(self._all([request.args for request in requests]))
        for request, text in zip(requests, found, strict=True):
            self.cache_hook.add_partial("generate_until", request.args, text)
        return found

    async def _all(self, asked: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
        return list(await asyncio.gather(*(self._generate(context, wishes, i) for i, (context, wishes) in enumerate(asked))))

    async def _generate(self, context: str, wishes: dict[str, Any], place: int) -> str:
        wanted = normalize_gen_kwargs(wishes, MAX_GEN_TOKENS)
        until = [stop for stop in wanted.get("until") or [] if stop]
        limit = wanted["max_gen_toks"]
        if limit >= self.max_length:
            raise UserError(f"a task generates up to {limit} tokens, the model's context holds {self.max_length}: lower its max_gen_toks")
        prompt = self.tok_encode(context)[-(self.max_length - limit) :] or [self.prefix_token_id]
        cuts = wanted.get("top_k") or 0, wanted.get("top_p") or 1.0, wanted.get("min_p") or 0.0
        sampling = Sampling(wanted.get("temperature", 0.0), limit, *cuts, fold(self.seed, place))
        decode = lambda ids: self.tokenizer.decode(ids, skip_special_tokens=True)  # noqa: E731
        stops = (*self.policy.renderer.stop_token_ids, self.eot_token_id)
        (completion,) = await self.engine.sample(prompt, 1, sampling, stops, watch=lambda _, tokens, __: reached(tokens, until, decode))
        return cut(decode([t for t in completion.token_ids if t not in stops]), until)


def _finished(work: Coroutine[Any, Any, list[str]]) -> list[str]:
    """The result of what waits, in a notebook too, whose own event loop is running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
