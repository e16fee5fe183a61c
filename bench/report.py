"""What was measured, as tables."""

import statistics
from dataclasses import dataclass, field

from loads import Load, Outcome


@dataclass(frozen=True)
class Sample:
    """One target under one load in one round."""

    cpu_ms: float
    """CPU of the target and of its store, in milliseconds per 1,000 requests."""
    store_cpu_ms: float
    rps: float
    p50_ms: float
    p99_ms: float


@dataclass
class Samples:
    """By target and load, one of each round."""

    taken: dict = field(default_factory=dict)
    complaints: "list[str]" = field(default_factory=list)

    def add(self, target, load: Load, outcome: Outcome, cpu: float, store_cpu: float) -> None:
        of_thousand = 1e6 / outcome.requests
        sample = Sample(
            cpu * of_thousand,
            store_cpu * of_thousand,
            outcome.requests / outcome.seconds,
            outcome.p50_us / 1e3,
            outcome.p99_us / 1e3,
        )
        self.taken.setdefault((target.title, load.title), []).append(sample)

    def complain(self, target, load: Load, wrong: str) -> None:
        self.complaints.append(f"{target.title}, {load.title}: {wrong}")


def print_table(targets, samples: Samples) -> None:
    for (target, load), rounds in sorted(samples.taken.items(), key=lambda item: item[0][1]):
        plain = samples.taken[(next(iter(targets.values())).title, load)]
        cpu = statistics.median(one.cpu_ms for one in rounds)
        over = statistics.median(one.cpu_ms - other.cpu_ms for one, other in zip(rounds, plain))
        ratio = statistics.median(one.cpu_ms / other.cpu_ms for one, other in zip(rounds, plain))
        rps = statistics.median(one.rps for one in rounds)
        p50 = statistics.median(one.p50_ms for one in rounds)
        p99 = statistics.median(one.p99_ms for one in rounds)
        print(f"| {load:36} | {target:32} | {cpu:7.1f} | {over:+7.1f} | {ratio:5.2f} | {rps:8.0f} | {p50:6.2f} | {p99:6.2f} |")
    for line in samples.complaints:
        print("WRONG", line)
