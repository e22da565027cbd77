"""Two results side by side: is the difference more than the choice of samples?"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from text2layer.errors import InputError
from text2layer.evaluation.interval import Interval, bootstrap_mean
from text2layer.evaluation.results import METRICS, ProtocolResult, ends, order, shown

RESAMPLES = 2000
SAME = ("samples", "version")
SAME_ABOUT = ("data", "split", "size", "data_seed", "prompts_sha256", "drawings_sha256")


@dataclass(frozen=True)
class Difference:
    """Of one metric.

    Attributes:
        first: of the one result.
        second: of the other.
        difference: second - first with its 95 % interval; unbounded where that is not known.
        paired: whether the same samples were compared one by one (bootstrap over samples).
        verdict: better, worse, "" (no clear difference, or no better way).
    """

    first: Interval
    second: Interval
    difference: Interval
    paired: bool
    verdict: str


def compare(
    first: list[ProtocolResult], second: list[ProtocolResult], seed: int = 0
) -> dict[str, dict[str, Difference]]:
    """Compare the protocols that both have, metric by metric.

    Means over the same samples are compared by a paired bootstrap over samples (Efron 1979), 2,000
    draws. FID, KID and other figures of whole sets are compared by their intervals as if these were
    independent and normal, which is wider than needed where the same prompts were drawn.

    Args:
        first: results.
        second: results.
        seed: of the bootstrap.

    Returns:
        Protocol -> metric -> difference.

    Raises:
        InputError: no protocol is in both, or they ran on other samples or versions.
    """
    others = {result.protocol: result for result in second}
    compared = {}
    for one in first:
        other = others.get(one.protocol)
        if other is None:
            continue
        check_comparable(one, other)
        names = [name for name in one.metrics if name in other.metrics]
        compared[one.protocol] = {
            name: _difference(name, one, other, seed) for name in sorted(names, key=order)
        }
    if not compared:
        raise InputError("The two results have no protocol in common; there is nothing to compare.")
    return compared


def check_comparable(one: ProtocolResult, other: ProtocolResult) -> None:
    """Raise InputError unless both ran the same version on the same samples and networks."""
    pairs = [(name, getattr(one, name), getattr(other, name)) for name in SAME]
    pairs += [(name, one.about.get(name), other.about.get(name)) for name in SAME_ABOUT]
    mine, theirs = (result.about.get("networks", {}) for result in (one, other))
    pairs += [(f"network {name}", mine[name], theirs[name]) for name in mine if name in theirs]
    for name, a, b in pairs:
        if a != b:
            raise InputError(
                f"The results of {one.protocol} cannot be compared: their {name.replace('_', ' ')} "
                f"differ ({a} and {b})."
            )


def _difference(name: str, one: ProtocolResult, other: ProtocolResult, seed: int) -> Difference:
    first, second = one.metrics[name], other.metrics[name]
    paired = name in one.per_sample and name in other.per_sample
    if paired:
        difference = paired_difference(one.per_sample[name], other.per_sample[name], seed)
    else:
        value = second.value - first.value
        reach = math.hypot(_half(first), _half(second))
        difference = Interval(value, value - reach, value + reach, min(one.samples, other.samples))
    better = METRICS.get(name, ("", 0))[1]
    clear = not (difference.low <= 0 <= difference.high)
    verdict = ""
    if clear and better:
        verdict = "better" if difference.value * better > 0 else "worse"
    return Difference(first, second, difference, paired, verdict)


def paired_difference(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Interval:
    """Mean of second - first over samples that both have, percentile bootstrap over samples.

    Args:
        first: (N,) scores, NaN where undefined.
        second: likewise, of the same samples.
        seed: of the draws.
    """
    differences = second - first
    known = differences[np.isfinite(differences)]
    ignored = len(differences) - len(known)
    if not len(known):
        return Interval(math.nan, -math.inf, math.inf, 0, ignored)
    return replace(bootstrap_mean(known, resamples=RESAMPLES, seed=seed), ignored=ignored)


def _half(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


def comparison_table(compared: dict[str, dict[str, Difference]], names: tuple[str, str]) -> str:
    """Markdown, one table for each protocol."""
    lines = []
    for protocol, metrics in compared.items():
        lines += [f"## {protocol}", ""]
        lines += [f"| figure | {names[0]} | {names[1]} | difference | 95 % interval | second is |"]
        lines += ["|---|---|---|---|---|---|"]
        for name, item in metrics.items():
            lines.append(
                f"| {name.replace('_', ' ')} | {shown(item.first.value)} "
                f"| {shown(item.second.value)} | {shown(item.difference.value)} "
                f"| {ends(item.difference)} | {item.verdict or 'not clearly different'} |"
            )
        lines.append("")
    return "\n".join(lines)
