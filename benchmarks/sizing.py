"""What thousands of stores cost one controller, and whether some that do not answer delay the others.

The real controller program runs with its real Kubernetes adapter. The stores' API servers are stand-ins in a
process of their own, over TLS and with a delay (``benchmarks.sizing_stores``). The fleet runs twice: with all
stores well, and with some that hang and some that refuse; half of the hanging ones have only just begun to.
In both, releases are deployed one by one to stores that are well, and the time is taken until the
store's API server has it.

    python -m benchmarks.sizing --stores 5000 --json sizing.json
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.sizing_fleet import Fleet, Options
from controller.adapters.database import migrate, open_database
from controller.domain.fleet import Store
from controller.domain.workload import WorkloadSettings
from controller.reconciler import Reconciler, Tempo

SETTLE_S = 20.0
"""From the controller's start until figures are taken."""
TICKS = 20
FEW = 50
"""Stores of the fleet that the large one is compared with: everything is loaded that one store needs."""


def tick_ms(url: str) -> dict[str, float]:
    """Milliseconds of one round of the reconciler when nothing is due and the database is asked, of reading
    who shall run what, as after a deployment, and of reading all current deployments whole."""

    def nobody(store: Store) -> Any:
        raise AssertionError(f"{store.name} is not due")

    def took_ms(work: Callable[[], object]) -> float:
        times = []
        for _ in range(TICKS):
            began = time.perf_counter()
            work()
            times.append(1000 * (time.perf_counter() - began))
        return round(statistics.median(times), 2)

    database = open_database(url)
    fleet = WorkloadSettings("mqtt://b:1883", "http://c:8080")
    tempo = replace(Tempo(), workers=0, tick_s=0.0, resync_s=1e9)
    reconciler = Reconciler(
        database, nobody, fleet, lambda: b"", lambda: datetime.now(UTC), lambda: 0.5, tempo
    )
    with ThreadPoolExecutor(1) as pool, database.reading() as repositories:
        reconciler.tick(pool)
        found = {
            "tick_ms": took_ms(lambda: reconciler.tick(pool)),
            "read_wanted_ms": took_ms(repositories.deployments.wanted),
            "read_whole_ms": took_ms(repositories.deployments.current),
        }
    database.close()
    return found


def watch(pid: int, seconds: float) -> dict[str, float]:
    """A process that is left alone: memory, threads and open files at most, and its share of one core."""
    proc = Path(f"/proc/{pid}")
    samples = []
    began, cpu_before = time.monotonic(), cpu_s(proc)
    while time.monotonic() - began < seconds:
        time.sleep(0.25)
        samples.append((threads(proc), *open_files(proc)))
    used = (cpu_s(proc) - cpu_before) / (time.monotonic() - began)
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    return {
        "rss_mb": round(int(status["VmRSS"].split()[0]) / 1024, 1),
        "threads": max(sample[0] for sample in samples),
        "open_files": max(sample[1] for sample in samples),
        "open_files_least": min(sample[1] for sample in samples),
        "sockets": max(sample[2] for sample in samples),
        "sockets_least": min(sample[2] for sample in samples),
        "cpu_share_idle": round(used, 3),
    }


def cpu_s(proc: Path) -> float:
    fields = (proc / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def threads(proc: Path) -> int:
    return sum(1 for _ in (proc / "task").iterdir())


def open_files(proc: Path) -> tuple[int, int]:
    """All, and those that are sockets."""
    targets = []
    for file in (proc / "fd").iterdir():
        try:
            targets.append(str(file.readlink()))
        except FileNotFoundError:  # closed meanwhile
            continue
    return len(targets), sum(target.startswith("socket:") for target in targets)


def measure(options: Options, root: Path, ill: bool, console: Console) -> dict[str, Any]:
    root.mkdir()
    with Fleet(options, root, ill, console) as fleet:
        kind = f"{len(fleet.hanging)} hang, {len(fleet.refusing)} refuse" if ill else "all well"
        console.print(f"{options.stores} stores, {kind}: preparing", highlight=False)
        fleet.prepare()
        figures: dict[str, Any] = {} if ill else tick_ms(fleet.url)
        pid, client = fleet.start_controller()
        time.sleep(SETTLE_S)
        console.print(f"  nothing is deployed for {options.idle_s:g} s", highlight=False)
        before = fleet.statistics()
        figures |= watch(pid, options.idle_s)
        after = fleet.statistics()
        looks = after["looks"] - before["looks"]
        figures["looks_per_s"] = round(looks / options.idle_s, 1)
        if looks:
            figures["bytes_per_look"] = round((after["bytes"] - before["bytes"]) / looks)
        if options.deployments:
            delays = sorted(fleet.delays(client, options.deployments))
            figures["deploy_p50_s"] = round(statistics.median(delays), 2)
            figures["deploy_p95_s"] = round(delays[round(0.95 * (len(delays) - 1))], 2)
            figures["deploy_max_s"] = round(delays[-1], 2)
        client.close()
        return figures


def run(options: Options, root: Path, postgres_url: str | None, console: Console) -> dict[str, Any]:
    """The figures. Raises ``DemoError`` when a part fails."""
    few = measure(replace(options, stores=FEW), root / "few", False, console)
    well = measure(options, root / "well", False, console)
    ill = measure(options, root / "ill", True, console)
    report = {
        "stores": options.stores,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "latency_ms": options.latency_ms,
        **well,
        "rss_per_store_kb": round(1024 * (well["rss_mb"] - few["rss_mb"]) / max(1, options.stores - FEW), 2),
        "few_stores": few,
        "with_ill_stores": ill,
    }
    if postgres_url is not None:
        (root / "postgresql").mkdir()
        database = open_database(postgres_url)
        migrate(database)
        Fleet(options, root / "postgresql", False, console).fill(database)
        database.close()
        report["postgresql"] = tick_ms(postgres_url)
    return report


def print_table(report: dict[str, Any], console: Console) -> None:
    columns = {
        f"{FEW} stores": report["few_stores"],
        "all well": report,
        "some ill": report["with_ill_stores"],
    }
    table = Table(title=f"{report['stores']} stores, one controller ({report['machine']})")
    table.add_column("figure")
    for name in columns:
        table.add_column(name, justify="right")
    for key in report["with_ill_stores"]:
        table.add_row(key, *(str(column.get(key, "")) for column in columns.values()))
    console.print(table)
    console.print(f"memory: {report['rss_per_store_kb']} KB a store", highlight=False)
    for name in ("sqlite", "postgresql"):
        found = report if name == "sqlite" else report.get(name)
        if found:
            words = f"a tick {found['tick_ms']} ms, after a deployment {found['read_wanted_ms']} ms more"
            console.print(f"{name}: {words} (all rows whole: {found['read_whole_ms']} ms)", highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stores", type=int, default=5000)
    parser.add_argument("--latency-ms", type=float, default=20.0, help="before each answer of a store")
    parser.add_argument("--hanging", type=float, default=0.02, help="share of stores that never answer")
    parser.add_argument("--refusing", type=float, default=0.05, help="share of stores that refuse")
    parser.add_argument("--idle-s", type=float, default=60.0, help="how long to watch an idle fleet")
    parser.add_argument("--deployments", type=int, default=40, help="how many delays to take")
    parser.add_argument("--postgres-url", help="an empty database, to take the tick's figures there, too")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    asked = parser.parse_args()
    options = Options(
        asked.stores, asked.latency_ms, asked.hanging, asked.refusing, asked.idle_s, asked.deployments
    )
    console = Console()
    with tempfile.TemporaryDirectory(prefix="storefleet-sizing-") as directory:
        report = run(options, Path(directory), asked.postgres_url, console)
    print_table(report, console)
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
