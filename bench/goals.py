"""What is to be reached, and whether it was.

The goals were set as figures of a machine on which plain Envoy took 46.6 ms of CPU for 1,000 keyed requests of 200
bytes and proxied 19,700 of them per second. Another machine, or the same at another hour, has other figures; so what
counts are those that are scaled to that plain Envoy, round by round.
"""

from collections.abc import Callable
from dataclasses import dataclass

from samples import Round, Samples

PLAIN_CPU = 46.6  # milliseconds per 1,000 requests
PLAIN_RATE = 19_700  # requests per second
PLAIN_P99 = 0.7  # milliseconds, at the paced load

# Where a claim reads and writes one bucket, as many records cost as much as few.
FEW, MANY = 100, 100_000


@dataclass(frozen=True)
class Goal:
    title: str
    limit: str
    # Whether a figure, as it counts, is good enough.
    is_met: Callable[[float], bool]
    # Of one round: the figure as it counts, and as it was measured where that is another.
    figure: Callable[[Round], float]
    measured: Callable[[Round], float] | None = None


def scaled(milliseconds: float, found: Round) -> float:
    """CPU, as if plain Envoy had taken what it took when the goals were set."""
    return milliseconds / found["envoy", "unique"].cpu * PLAIN_CPU


def above_plain(found: Round, load: str, name: str = "shared") -> float:
    return found[name, load].cpu - found["envoy", load].cpu


def of_redis(found: Round) -> float:
    return above_plain(found, "unique", "redis")


def rate_beside_one_shot(found: Round, name: str, load: str = "unique") -> float:
    return found[name, load].rate / found["redis-one-shot", load].rate


def above_express(found: Round) -> float:
    return found["express-idempotency", "unique"].cpu - found["express", "unique"].cpu


GOALS = [
    Goal(
        "GET without a key: CPU, beside the filter that does nothing",
        "1.05 times at most",
        lambda figure: figure <= 1.05,
        lambda found: found["shared", "get"].cpu / found["noop", "get"].cpu,
    ),
    Goal(
        "unique keys, 200 B: CPU above plain Envoy",
        "below 20 ms",
        lambda figure: figure < 20,
        lambda found: scaled(above_plain(found, "unique"), found),
        lambda found: above_plain(found, "unique"),
    ),
    Goal(
        "one hot key, 200 B: CPU, beside plain Envoy",
        "below 1 time",
        lambda figure: figure < 1,
        lambda found: found["shared", "hot"].cpu / found["envoy", "hot"].cpu,
    ),
    Goal(
        "one hot key, 200 B: requests per second",
        "25,000 or more",
        lambda figure: figure >= 25_000,
        lambda found: found["shared", "hot"].rate / found["envoy", "hot"].rate * PLAIN_RATE,
        lambda found: found["shared", "hot"].rate,
    ),
    Goal(
        "unique keys, 16 KiB: CPU above plain Envoy",
        "below 60 ms",
        lambda figure: figure < 60,
        lambda found: scaled(above_plain(found, "unique-16k"), found),
        lambda found: above_plain(found, "unique-16k"),
    ),
    Goal(
        "replays at a steady pace: p99",
        "below 1 ms",
        lambda figure: figure < 1,
        lambda found: found["shared", "paced-hot"].p99 / found["envoy", "paced"].p99 * PLAIN_P99,
        lambda found: found["shared", "paced-hot"].p99,
    ),
    Goal(
        "Redis, unique keys, 200 B: CPU above plain Envoy, beside a connection per call",
        "0.4 times at most",
        lambda figure: figure <= 0.4,
        lambda found: of_redis(found) / above_plain(found, "unique", "redis-one-shot"),
    ),
    Goal(
        "Redis, unique keys, 200 B: CPU above plain Envoy, beside that of `express-idempotency` above Express",
        "below 1 time",
        lambda figure: figure < 1,
        lambda found: of_redis(found) / above_express(found),
    ),
    Goal(
        "Redis, claims alone: requests per second, beside a connection per call",
        "3 times or more",
        lambda figure: figure >= 3,
        lambda found: rate_beside_one_shot(found, "redis", "claims"),
    ),
    Goal(
        "PostgreSQL, unique keys, 200 B: requests per second, beside Redis with a connection per call",
        "0.35 times or more",
        lambda figure: figure >= 0.35,
        lambda found: rate_beside_one_shot(found, "postgres"),
    ),
    Goal(
        "PostgreSQL, asynchronous, unique keys, 200 B: the same",
        "1 time or more",
        lambda figure: figure >= 1,
        lambda found: rate_beside_one_shot(found, "postgres-async"),
    ),
    Goal(
        f"unique keys, 200 B: CPU with {MANY:,} records, beside {FEW}",
        "1.10 times at most",
        lambda figure: figure <= 1.10,
        lambda found: found["many-records", "records"].cpu / found["few-records", "records"].cpu,
    ),
]


def table(samples: Samples) -> list[str]:
    lines = ["| goal | | measured | scaled | |", "| --- | --- | --- | --- | --- |"]
    for goal in GOALS:
        figure, measured = samples.median(goal.figure), samples.median(goal.measured or goal.figure)
        verdict = "not measured" if figure is None else "reached" if goal.is_met(figure) else "**not reached**"
        shown = "–" if figure is None or goal.measured is None else rounded(figure)
        lines.append(f"| {goal.title} | {goal.limit} | {rounded(measured)} | {shown} | {verdict} |")
    return lines


def rounded(figure: float | None) -> str:
    if figure is None:
        return "–"
    return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.1f}" if abs(figure) >= 10 else f"{figure:.2f}"
