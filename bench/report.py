"""The run as Markdown, and its place in docs/performance.md."""

from collections.abc import Callable

import goals
import machine
from loads import LOADS, PACE
from processes import ROOT, fail
from samples import Samples
from targets import TARGETS

PAGE = ROOT / "docs/performance.md"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"

SMALL = {"get": "GET, no key", "unique": "unique keys", "hot": "one hot key", "half": "half and half"}
LARGE = {f"{load}-16k": title for load, title in SMALL.items()}
PACED = {"paced": "proxied", "paced-hot": "replayed"}


def markdown(names: list[str], samples: Samples, extent: str) -> str:
    """All that was measured of these targets."""
    alone = [name for name in names if TARGETS[name].records is None]
    filled = [name for name in names if TARGETS[name].records is not None]
    sections = {
        "What was to be reached": goals.table(samples),
        "CPU, 200 B": costs(alone, samples, SMALL),
        "CPU, 16 KiB": costs(alone, samples, LARGE),
        "CPU by records": costs(filled, samples, {"records": "unique keys"}),
        "Requests per second": rates(alone, samples),
        f"Latency at {PACE} requests per second": latencies(alone, samples),
        "Memory": memory(names, samples),
    }
    head = "\n".join([f"{machine.description()}.", f"{', '.join(machine.versions(names))}.", extent])
    return "\n\n".join([head, *("\n".join([f"### {title}", "", *rows]) for title, rows in sections.items() if rows)])


def costs(names: list[str], samples: Samples, loads: dict[str, str]) -> list[str]:
    """Milliseconds of CPU per 1,000 requests, beside the same without what guards and beside plain Envoy."""

    def cell(name: str, load: str) -> str | None:
        bare = TARGETS[name].bare
        total = samples.median(lambda found: found[name, load].cpu)
        if total is None:
            return None
        store = samples.median(lambda found: found[name, load].store_cpu)
        above = samples.median(lambda found: found[name, load].cpu - found[bare, load].cpu)
        times = samples.median(lambda found: found[name, load].cpu / found["envoy", load].cpu)
        remarks = [f"{above:+.1f}"] if name != bare and above is not None else []
        remarks += [f"×{times:.2f}"] if name != "envoy" and times is not None else []
        remarks += [f"store {store:.1f}"] if store else []
        return f"{total:.1f}" + (f" ({', '.join(remarks)})" if remarks else "")

    return table(names, loads, cell)


def rates(names: list[str], samples: Samples) -> list[str]:
    def cell(name: str, load: str) -> str | None:
        rate = samples.median(lambda found: found[name, load].rate)
        return None if rate is None else f"{rate:,.0f}"

    columns = {load: f"{title}, 200 B" for load, title in SMALL.items()}
    columns |= {load: f"{title}, 16 KiB" for load, title in LARGE.items()} | {"claims": LOADS["claims"].title}
    return table(names, columns, cell)


def latencies(names: list[str], samples: Samples) -> list[str]:
    def cell(name: str, column: str) -> str | None:
        load, quantile = column.split()
        if load == "paced-hot" and TARGETS[name].marks is None:
            return None
        figure = samples.median(lambda found: getattr(found[name, load], quantile))
        return None if figure is None else f"{figure:.2f} ms"

    quantiles = ("p50", "p99")
    columns = {f"{load} {quantile}": f"{title}, {quantile}" for load, title in PACED.items() for quantile in quantiles}
    return table(names, columns, cell)


def memory(names: list[str], samples: Samples) -> list[str]:
    def cell(name: str, column: str) -> str:
        before, after = samples.memory[name]
        figure = {"before": before.now, "after": after.now, "peak": after.peak}[column]
        return f"{figure / (1 << 20):.0f} MiB"

    return table(names, {"before": "at the start", "after": "at the end", "peak": "at most"}, cell)


def table(names: list[str], columns: dict[str, str], cell: Callable[[str, str], str | None]) -> list[str]:
    """A row for each target. Columns without a figure are left out, and all of it if none has one."""
    cells = {(name, column): cell(name, column) for name in names for column in columns}
    shown = [column for column in columns if any(cells[name, column] for name in names)]
    if not shown:
        return []
    lines = [f"| | {' | '.join(columns[column] for column in shown)} |", f"| --- |{' --- |' * len(shown)}"]
    lines += [f"| {TARGETS[name].title} | {' | '.join(cells[name, one] or '–' for one in shown)} |" for name in names]
    return lines


def write(text: str) -> None:
    """Puts it between the markers of the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        fail(f"{PAGE.relative_to(ROOT)} lacks its markers", f"Put {BEGIN} and {END} where the tables belong.")
    PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
