"""What was measured, round by round, and what follows from it."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from loads import Outcome
from processes import Memory


@dataclass(frozen=True)
class Sample:
    """One target under one load in one round."""

    # Milliseconds per 1,000 requests: of the target's processes, and of the server that has its records.
    cpu: float
    store_cpu: float
    # Requests per second.
    rate: float
    # Milliseconds.
    p50: float
    p99: float

    @classmethod
    def of(cls, outcome: Outcome, cpu_seconds: float, store_cpu_seconds: float) -> "Sample":
        each = 1e6 / outcome.requests
        rate = outcome.requests / outcome.seconds
        return cls(cpu_seconds * each, store_cpu_seconds * each, rate, outcome.p50_us / 1e3, outcome.p99_us / 1e3)


# By the names of target and load.
Round = dict[tuple[str, str], Sample]


@dataclass
class Samples:
    """All of a run."""

    rounds: list[Round] = field(default_factory=list)
    # By the name of the target: before the first turn, and after the last.
    memory: dict[str, tuple[Memory, Memory]] = field(default_factory=dict)
    # Answers that were not as they must be.
    complaints: list[str] = field(default_factory=list)

    def median(self, figure: Callable[[Round], float]) -> float | None:
        """The median of a figure of each round; None if what it needs was not measured.

        A figure that compares two targets does so within a round: a machine that is slower for a minute is slower for
        both.
        """
        try:
            return statistics.median(map(figure, self.rounds))
        except (KeyError, ZeroDivisionError):
            return None
