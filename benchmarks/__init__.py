"""Side-by-side timings against peers. Each prints ratios from one run, on the same prompts and lengths.

    python -m benchmarks.grpo_step      one GRPO step against TRL's
    python -m benchmarks.sampling       the local engine against transformers' `generate`

`work.py` is what all sides are asked to do, `sides/` is who does it, `apart.py` runs each in a process of its own, and
`report.py` turns what they did into ratios. A new comparison is a file beside these two and a module for each side.
"""
