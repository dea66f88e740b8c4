"""Side-by-side timings against peers. Each prints ratios from one run, on the same prompts or texts and lengths.

    python -m benchmarks.sft            SFT against TRL's
    python -m benchmarks.dpo            DPO against TRL's
    python -m benchmarks.grpo_step      one GRPO step against TRL's
    python -m benchmarks.sampling       the local engine against transformers' `generate`
    python -m benchmarks.vocabulary     memory of a training step, as the vocabulary grows

`work.py`, `learning.py` and `vocabularies.py` are what all sides are asked to do, `sides/` is who does it, `apart.py` runs each
in a process of its own, and `report.py` turns what they did into ratios. A new comparison is a file beside these five, a kind
of work, and a module for each side.
"""
