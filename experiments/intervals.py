"""Which error bars can be believed, and what does an evaluation of n problems show?

Six questions with known answers, so that whoever gets them wrong is found out. Coverage: how often nominal 95% intervals hold
the truth, for single attempts summed over every outcome (Wald, Wilson, Beta in Jeffreys' form, percentile bootstrap, ours), and for
several attempts simulated on problems of mixed difficulty (ours; ours without the pseudo problem of `rate_interval`; attempts
taken for problems), rate by rate and averaged over rates and spreads, with paired differences beside; and at which rates no
interval can. Clusters: questions about one text, against sqrt(1 + (m - 1) rho). Pairing: how often a gain is found with and
without it, on the solve rates of a real model, beside the formula of 2411.00640. pass@k: the plug-in estimate
against the unbiased one on published counts (Qwen2.5-1.5B-Instruct on MATH-500, 64 attempts at each, 2505.22756). Order:
how often two models that differ by 2 points come out the wrong way round, and what 3% wrong labels do. Selection: how much the
best of many equal checkpoints seems better, and what `statistics.select` makes of it.

What would make this dishonest: coverage at one favourable rate only (the worst of four is given); a bootstrap of attempts
where problems repeat; a pairing shown on two models that share everything; a plug-in estimate compared at k far below n,
where nobody would see its bias. It fails if Wald does not fall below 90% at n = 30, if ours leaves 93-98% for single
attempts, or if the clustered error departs from theory by more than 5%; the last line says whether it did.

    python -m experiments.intervals

Measured (2026-11-25, 2 min on 2 cores, seed 0):
- averaged over rates of .05 to .95 and spreads of them, attempts at each problem and coverage with n = 30, 60, 100,
  300, 1000, 2500: 1: 0.952, 0.947, 0.949, 0.944, 0.947, 0.953; 4: 0.952, 0.957, 0.951, 0.948, 0.941, 0.951; 16:
  0.956, 0.956, 0.952, 0.950, 0.946, 0.949
- paired differences averaged likewise: 1: 0.945, 0.945, 0.950, 0.945, 0.953, 0.949; 4: 0.948, 0.954, 0.951, 0.952,
  0.942, 0.949; 16: 0.953, 0.951, 0.948, 0.947, 0.956, 0.942
- single attempts outside 93-97%, of 193 rates from .02 to .98, and those of them at which no set of consecutive
  counts has 93-97%: n = 30: 18 (10 impossible); n = 60: 4 (0 impossible); n = 100: 6 (0 impossible); n = 164: 0 (0
  impossible); n = 300: 0 (0 impossible)
- single attempts, worst coverage over rates of .02, .1, .5, .95 with n = 30, 164, 198, 500, 2500: Wald 0.454, 0.836,
  0.901, 0.928, 0.938; bootstrap 0.452, 0.836, 0.889, 0.953, 0.951; Beta 0.932, 0.946, 0.945, 0.946, 0.946; Wilson
  0.939, 0.949, 0.935, 0.946, 0.947; ours 0.939, 0.949, 0.935, 0.946, 0.947
- the most that ours covers there: 0.978, where there are the fewest outcomes
- 4, 8 and 32 attempts at problems whose rates follow beta laws (45 settings, 4000 simulations each), lowest and
  highest coverage with n = 30, 64, 164, 500: ours 0.939 to 0.981, 0.932 to 0.977, 0.926 to 0.955, 0.940 to 0.958;
  without the pseudo problem 0.799 to 0.972, 0.840 to 0.971, 0.915 to 0.956, 0.940 to 0.958; attempts taken for
  problems 0.175 to 0.874, 0.288 to 0.855, 0.290 to 0.863, 0.293 to 0.864
- 100 texts of 10 questions, clustered error over naive, measured for sqrt(1 + (m - 1) rho): rho 0.0: 1.00 for 1.00;
  rho 0.1: 1.38 for 1.38; rho 0.3: 1.92 for 1.92; rho 0.6: 2.53 for 2.53; rho 0.9: 3.03 for 3.02
- coverage of the naive and the clustered interval there (400 simulations): 0.0: 0.95 and 0.94; 0.1: 0.85 and 0.96;
  0.3: 0.69 and 0.96; 0.6: 0.51 and 0.95; 0.9: 0.54 and 0.96
- a gain of 5 points on 200 problems with the published solve rates is found (power, 4000 simulations): 1 attempt:
  0.28 paired, 0.08 unpaired, 0.30 by the formula, which asks for 755 problems; 8 attempts: 0.98 paired, 0.04
  unpaired, 0.98 by the formula, which asks for 98 problems
- published sample sizes: 969 problems for 3 points; 0.1327 and 0.0757 detectable on 198 problems with 1 and 10
  attempts (printed as 13.2% and 7.5%)
- pass@k of the published counts, unbiased and plug-in: k = 1: 0.4014 [0.3713 0.4323] (n 500) and 0.4014; k = 8:
  0.7080 [0.6737 0.7400] (n 500) and 0.7014; k = 16: 0.7778 [0.7450 0.8074] (n 500) and 0.7666; k = 64: 0.8760 [0.8442
  0.9021] (n 500) and 0.8497
- pass@1 0.4014: interval over problems [0.371 0.432], over attempts as if each were a problem [0.396 0.407]
- two models 2 points apart at 40% (published solve rates), not in the right order with n = 30, 164, 198, 500, 2500:
  0.42, 0.30, 0.28, 0.18, 0.02
- at 95% and 97%: 0.35, 0.17, 0.15, 0.05, 0.00; with 3% of the labels wrong, so that nobody is seen above 97%: 0.36,
  0.18, 0.16, 0.05, 0.00
- the best of m equal checkpoints at 50% on 198 problems seems better by (400 simulations) 2: +2.0 points (+2.0 by
  theory), +0.0 once corrected, intervals hold the truth 0.93 and 0.99; 10: +5.5 points (+5.5 by theory), +0.1 once
  corrected, intervals hold the truth 0.75 and 1.00; 50: +7.9 points (+8.0 by theory), -0.0 once corrected, intervals
  hold the truth 0.27 and 1.00
- Wald falls below 90% at n = 30: yes; ours stays within 93-98% for single attempts: yes; the clustered error follows
  theory within 5%: yes
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from scipy import optimize, special, stats

from experiments.common import ATTEMPTS, COUNTS, record, spoken
from posttrain import statistics

SIZES = (30, 164, 198, 500, 2500)
"""A small set, HumanEval, GPQA-Diamond, MATH-500, HLE."""
RATES = (0.02, 0.1, 0.5, 0.95)


@dataclass(frozen=True)
class Config:
    """The default is what the docstring reports."""

    out: Path = Path("runs/experiments/intervals")
    repeats: int = 4000
    """Simulated evaluations for each figure."""
    seed: int = 0


def run(config: Config) -> None:
    """Ask all six, record."""
    started = time.perf_counter()
    config.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(config.seed)
    counts = np.loadtxt(COUNTS, dtype=int)
    rates, few = counts / ATTEMPTS, config.repeats // 10
    parts = {
        "coverage": coverage(rng, config.repeats), "clusters": clusters(rng, few), "pairing": pairing(rng, rates, config.repeats),
        "pass_at_k": pass_at_k(counts), "order": order(rng, rates, config.repeats), "selection": selection(rng, few),
    }  # fmt: skip
    found = {name: figures for name, (figures, _) in parts.items()}
    lines = [line for _, told in parts.values() for line in told]
    record(__file__, config.out, config, found, [*lines, failures(found)], started)


def failures(found: dict) -> str:
    """Which of the criteria in the docstring failed."""
    single = found["coverage"]["single"]
    criteria = {
        "Wald falls below 90% at n = 30": min(single["Wald"][30]) < 0.9,
        "ours stays within 93-98% for single attempts": all(0.93 <= x <= 0.98 for row in single["ours"].values() for x in row),
        "the clustered error follows theory within 5%": all(abs(f["ratio"] / f["theory"] - 1) < 0.05 for f in found["clusters"].values()),
    }
    return "; ".join(f"{name}: {'yes' if met else 'NO'}" for name, met in criteria.items())


# ------------------------------------------------------------------------------------------------------------- coverage

Interval = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def ours(right: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """`rate_interval` of single attempts."""
    rates = right / n
    return statistics.rate_interval(rates, np.sqrt(rates * (1 - rates) / (n - 1)), n)


def bootstrap(right: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The percentile interval; of single attempts the resampled counts are binomial, so that no resample need be drawn."""
    return stats.binom.ppf(0.025, n, right / n) / n, stats.binom.ppf(0.975, n, right / n) / n


METHODS: dict[str, Interval] = {
    "Wald": lambda right, n: statistics.count_interval(right, n, "wald"),
    "bootstrap": bootstrap,
    "Beta": lambda right, n: statistics.count_interval(right, n, "jeffreys"),
    "Wilson": lambda right, n: statistics.count_interval(right, n, "wilson"),
    "ours": ours,
}


SMALL, AVERAGED = (30, 60, 100, 164, 300), (30, 60, 100, 300, 1000, 2500)
SEVERAL = (30, 64, 164, 500)
"""Sizes for several attempts: larger ones take minutes, and cover no worse."""


def coverage(rng: Generator, repeats: int) -> tuple[dict, list[str]]:
    """Of single attempts, exactly; of several attempts at problems of mixed difficulty, by simulation."""
    single = {name: {n: [covered(method, n, p) for p in RATES] for n in SIZES} for name, method in METHODS.items()}
    averaged = {k: {n: average(rng, repeats if n <= 300 else repeats // 4, n, k) for n in AVERAGED} for k in (1, 4, 16)}
    out_of_reach = {n: beyond(n) for n in SMALL}
    settings = [(p, spread, k) for p in (*RATES, 0.05) for spread in (0.3, 1, 3) for k in (4, 8, 32)]
    several = {n: [simulated(rng, repeats, n, *setting) for setting in settings] for n in SEVERAL}
    told = "; ".join(f"{name} {', '.join(f'{min(row):.3f}' for row in rows.values())}" for name, rows in single.items())
    mixed = "; ".join(f"{name} {', '.join(_range([row[name] for row in rows]) for rows in several.values())}" for name in several[SEVERAL[0]][0])
    shown = lambda kind: "; ".join(f"{k}: {', '.join(f'{found[kind]:.3f}' for found in rows.values())}" for k, rows in averaged.items())  # noqa: E731
    return {"single": single, "several": several, "averaged": averaged, "out_of_reach": out_of_reach}, [
        f"averaged over rates of .05 to .95 and spreads of them, attempts at each problem and coverage with n = {', '.join(map(str, AVERAGED))}: {shown('rate')}",
        f"paired differences averaged likewise: {shown('difference')}",
        "single attempts outside 93-97%, of 193 rates from .02 to .98, and those of them at which no set of consecutive counts has 93-97%: "
        + "; ".join(f"n = {n}: {len(outside)} ({impossible} impossible)" for n, (outside, impossible) in out_of_reach.items()),
        f"single attempts, worst coverage over rates of .02, .1, .5, .95 with n = {', '.join(map(str, SIZES))}: {told}",
        f"the most that ours covers there: {max(max(row) for row in single['ours'].values()):.3f}, where there are the fewest outcomes",
        f"4, 8 and 32 attempts at problems whose rates follow beta laws ({len(settings)} settings, {repeats} simulations each),"
        f" lowest and highest coverage with n = {', '.join(map(str, SEVERAL))}: {mixed}",
    ]


def average(rng: Generator, repeats: int, n: int, k: int) -> dict[str, float]:
    """Coverage of a rate and of a paired difference, averaged over problems' rates that are alike, mixed, or nearly all or nothing.

    The log-odds of a problem are mu + sigma z, with the logistic of mu uniform from .05 to .95 and sigma 0, 1 or 3; those of the second
    model are up to 1 more on average and its z correlates with the first's by .8. The truths are integrals over z.
    """
    held = [_one_of_each(rng, n, k, sigma) for sigma in (0.0, 1.0, 3.0) for _ in range(repeats // 3)]
    return {name: float(np.mean([pair[i] for pair in held])) for i, name in enumerate(("rate", "difference"))}


NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(81)


def _one_of_each(rng: Generator, n: int, k: int, sigma: float) -> tuple[bool, bool]:
    """Whether the interval of a rate, and that of its difference to another's, hold the truth in one evaluation."""
    before = rng.uniform(0.05, 0.95)
    mus = np.log(before / (1 - before)) + np.array([0.0, rng.uniform(0, 1)])
    z = rng.normal(size=(2, n))
    z[1] = 0.8 * z[0] + 0.6 * z[1]
    was, now = (rng.binomial(k, special.expit(mu + sigma * row)) / k for mu, row in zip(mus, z, strict=True))
    truths = [float(WEIGHTS @ special.expit(mu + sigma * NODES) / WEIGHTS.sum()) for mu in mus]
    rate, difference = statistics.rate_over_problems(was), statistics.paired_rate_difference(was, now)
    return rate.low <= truths[0] <= rate.high, difference.low <= truths[1] - truths[0] <= difference.high


def beyond(n: int) -> tuple[list[float], int]:
    """The rates at which ours covers less than 93% or more than 97%, and at how many of these no interval can do otherwise.

    With an interval whose ends grow with the count, the counts whose interval holds a rate are consecutive: if no consecutive counts have
    93 to 97% of the chance, no such interval covers so much.
    """
    rates = np.linspace(0.02, 0.98, 193)
    outside = [float(p) for p in rates if not 0.93 <= covered(ours, n, p) <= 0.97]
    return outside, sum(not reachable(n, p) for p in outside)


def reachable(n: int, p: float) -> bool:
    """Whether any set of consecutive counts of n has a chance of .93 to .97 at the rate p."""
    below = np.concatenate([[0.0], stats.binom.cdf(np.arange(n + 1), n, p)])
    between = below[None] - below[:, None]
    return bool(((between >= 0.93) & (between <= 0.97)).any())


def simulated(rng: Generator, repeats: int, n: int, p: float, spread: float, k: int) -> dict[str, float]:
    """How often each interval holds p, for k attempts at n problems with rates from Beta(p spread, (1 - p) spread)."""
    means = rng.binomial(k, rng.beta(p * spread, (1 - p) * spread, (repeats, n))) / k
    rate, stderr = means.mean(1), means.std(1, ddof=1) / np.sqrt(n)
    pooled = 1.96 * np.sqrt(rate * (1 - rate) / (k * n))
    intervals = {
        "ours": statistics.rate_interval(rate, stderr, n), "without the pseudo problem": effective_wilson(rate, stderr, n),
        "attempts taken for problems": (rate - pooled, rate + pooled),
    }  # fmt: skip
    return {name: float(np.mean((low <= p) & (p <= high))) for name, (low, high) in intervals.items()}


def _range(values: list[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}"


def covered(method: Interval, n: int, p: float) -> float:
    """How often the interval holds the rate p, summed over every number of right attempts."""
    right = np.arange(n + 1)
    low, high = method(right, n)
    return float(stats.binom.pmf(right, n, p) @ ((low <= p) & (p <= high)))


def effective_wilson(rate: np.ndarray, stderr: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval at the effective sample size and with Student's quantile, without what `rate_interval` adds."""
    with np.errstate(divide="ignore", invalid="ignore"):
        tosses = np.maximum(np.where(stderr > 0, rate * (1 - rate) / stderr**2, n), n)
    doubt = stats.t.ppf(0.975, n - 1) ** 2 / tosses
    centre = (rate + doubt / 2) / (1 + doubt)
    half = np.sqrt(doubt * (rate * (1 - rate) + doubt / 4)) / (1 + doubt)
    return centre - half, centre + half


# ------------------------------------------------------------------------------------------------------------- clusters


def clusters(rng: Generator, repeats: int, passages: int = 100, questions: int = 10) -> tuple[dict, list[str]]:
    """The clustered error over the naive one, against theory, and how often each interval holds the truth (.5)."""
    labels = np.repeat(np.arange(passages), questions).tolist()
    found = {}
    for rho in (0.0, 0.1, 0.3, 0.6, 0.9):
        spread = (1 / rho - 1) / 2 if rho else 0.0
        rates = rng.beta(spread, spread, (repeats, passages)) if rho else np.full((repeats, passages), 0.5)
        right = rng.random((repeats, passages * questions)) < np.repeat(rates, questions, axis=1)
        pairs = [(statistics.rate_over_problems(row), statistics.rate_over_problems(row, clusters=labels)) for row in right]
        naive, clustered = ([pair[i] for pair in pairs] for i in (0, 1))
        found[rho] = {
            "ratio": float(np.mean([c.stderr for c in clustered]) / np.mean([m.stderr for m in naive])),
            "theory": float(np.sqrt(1 + (questions - 1) * rho)),
            "naive": holds(naive, 0.5), "clustered": holds(clustered, 0.5),
        }  # fmt: skip
    ratios = "; ".join(f"rho {rho}: {f['ratio']:.2f} for {f['theory']:.2f}" for rho, f in found.items())
    held = "; ".join(f"{rho}: {f['naive']:.2f} and {f['clustered']:.2f}" for rho, f in found.items())
    return found, [
        f"{passages} texts of {questions} questions, clustered error over naive, measured for sqrt(1 + (m - 1) rho): {ratios}",
        f"coverage of the naive and the clustered interval there ({repeats} simulations): {held}",
    ]


def holds(measurements, truth: float) -> float:
    """How often the interval holds the truth."""
    return float(np.mean([m.low <= truth <= m.high for m in measurements]))


# -------------------------------------------------------------------------------------------------------------- pairing


def better_by(rates: np.ndarray, gain: float) -> np.ndarray:
    """The rates of a model that is better by `gain` on average: the same log-odds more on every problem that is neither 0 nor 1."""
    logits = np.log(rates.clip(1e-3, 1 - 1e-3) / (1 - rates.clip(1e-3, 1 - 1e-3)))
    shifted = lambda shift: 1 / (1 + np.exp(-(logits + shift)))  # noqa: E731
    return shifted(optimize.brentq(lambda shift: shifted(shift).mean() - rates.mean() - gain, -9, 9))


def pairing(rng: Generator, rates: np.ndarray, repeats: int, n: int = 200, gain: float = 0.05) -> tuple[dict, list[str]]:
    """How often n of the problems show a gain of five points, by pairs and by two samples of the same problems."""
    better = better_by(rates, gain)
    found = {}
    for k in (1, 8):
        chosen = rng.integers(len(rates), size=(repeats, n))
        before, after = (rng.binomial(k, model[chosen]) / k for model in (rates, better))
        shown = {
            name: float(np.mean([differ(b, a).low > 0 for b, a in zip(before, after, strict=True)]))
            for name, differ in (("paired", statistics.paired_rate_difference), ("unpaired", statistics.unpaired_rate_difference))
        }
        variance = statistics.difference_variance(np.var(better - rates), *(np.mean(r * (1 - r)) for r in (rates, better)), k, k)
        shown["formula"] = statistics.power_of(gain, n, variance)
        shown["needed"] = statistics.problems_needed(gain, variance)
        found[k] = shown
    published = [statistics.problems_needed(0.03, statistics.difference_variance(1 / 9))]
    published += [statistics.detectable_effect(198, statistics.difference_variance(1 / 9, 1 / 6, 1 / 6, k, k)) for k in (1, 10)]
    told = "; ".join(
        f"{k} attempt{'s' if k > 1 else ''}: {f['paired']:.2f} paired, {f['unpaired']:.2f} unpaired,"
        f" {f['formula']:.2f} by the formula, which asks for {f['needed']} problems"
        for k, f in found.items()
    )
    return {**found, "published": published}, [
        f"a gain of 5 points on {n} problems with the published solve rates is found (power, {repeats} simulations): {told}",
        f"published sample sizes: {published[0]} problems for 3 points; {published[1]:.4f} and {published[2]:.4f} detectable on 198 problems"
        " with 1 and 10 attempts (printed as 13.2% and 7.5%)",
    ]


# --------------------------------------------------------------------------------------------------------------- pass@k


def pass_at_k(counts: np.ndarray) -> tuple[dict, list[str]]:
    """The plug-in and the unbiased estimate from the published counts; the interval over problems and over attempts."""
    found = {}
    for k in (1, 8, 16, 64):
        unbiased = statistics.rate_over_problems(statistics.pass_at_k(ATTEMPTS, counts, k))
        found[k] = {"unbiased": unbiased, "plug_in": float((1 - (1 - counts / ATTEMPTS) ** k).mean())}
    told = "; ".join(f"k = {k}: {spoken(f['unbiased'], 4)} and {f['plug_in']:.4f}" for k, f in found.items())
    one = found[1]["unbiased"]
    pooled = statistics.count_interval(int(counts.sum()), ATTEMPTS * len(counts))
    return found, [
        f"pass@k of the published counts, unbiased and plug-in: {told}",
        f"pass@1 {one.value:.4f}: interval over problems [{one.low:.3f} {one.high:.3f}],"
        f" over attempts as if each were a problem [{pooled[0]:.3f} {pooled[1]:.3f}]",
    ]


# ---------------------------------------------------------------------------------------------------------------- order


def order(rng: Generator, rates: np.ndarray, repeats: int) -> tuple[dict, list[str]]:
    """How often the better of two models, by 2 points, does not come out ahead on the same n problems, one attempt at each."""
    better = better_by(rates, 0.02)
    wrong = {n: behind(rng, rates, better, n, repeats) for n in SIZES}
    strong, stronger = np.full(500, 0.95), np.full(500, 0.97)
    saturated = {noise: {n: behind(rng, strong, stronger, n, repeats, noise) for n in SIZES} for noise in (0.0, 0.03)}
    told = lambda found: ", ".join(f"{x:.2f}" for x in found.values())  # noqa: E731
    return {"published rates": wrong, "95 and 97": saturated}, [
        f"two models 2 points apart at 40% (published solve rates), not in the right order with n = {', '.join(map(str, SIZES))}: {told(wrong)}",
        f"at 95% and 97%: {told(saturated[0.0])}; with 3% of the labels wrong, so that nobody is seen above 97%: {told(saturated[0.03])}",
    ]


def behind(rng: Generator, rates: np.ndarray, better: np.ndarray, n: int, repeats: int, noise: float = 0.0) -> float:
    """The share of evaluations in which the better model is behind, half of those in which they are level counted along."""
    chosen = rng.integers(len(rates), size=(repeats, n))
    labelled = rng.random((repeats, n)) >= noise
    before, after = ((rng.random((repeats, n)) < model[chosen]) & labelled for model in (rates, better))
    gap = after.sum(1) - before.sum(1)
    return float((gap < 0).mean() + (gap == 0).mean() / 2)


# ------------------------------------------------------------------------------------------------------------ selection


def selection(rng: Generator, repeats: int, n: int = 198, rate: float = 0.5) -> tuple[dict, list[str]]:
    """The best of m equal checkpoints on n problems: how much better it seems, and whether intervals hold the truth."""
    stderr = np.sqrt(rate * (1 - rate) / n)
    found = {}
    for m in (2, 10, 50):
        chosen = [statistics.select(rng.random((m, n)) < rate, resamples=200) for _ in range(repeats)]
        found[m] = {
            "seems": float(np.mean([s.naive.value for s in chosen]) - rate), "theory": statistics.expected_maximum(m) * float(stderr),
            "honest": float(np.mean([s.honest.value for s in chosen]) - rate),
            "naive_holds": holds([s.naive for s in chosen], rate), "honest_holds": holds([s.honest for s in chosen], rate),
        }  # fmt: skip
    told = "; ".join(
        f"{m}: {100 * f['seems']:+.1f} points ({100 * f['theory']:+.1f} by theory), {100 * f['honest']:+.1f} once corrected,"
        f" intervals hold the truth {f['naive_holds']:.2f} and {f['honest_holds']:.2f}"
        for m, f in found.items()
    )
    return found, [f"the best of m equal checkpoints at 50% on {n} problems seems better by ({repeats} simulations) {told}"]


def main() -> None:
    import tyro

    run(tyro.cli(Config))


if __name__ == "__main__":
    main()
