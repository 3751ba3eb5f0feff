"""How much memory and time discovery and curation take as the log grows: the commands on made logs, their process
trees watched.

    python benchmarks/scale/run.py --records 50000 --out benchmarks/scale/results.json
    python benchmarks/scale/run.py --records 50000 --cluster discover
    python benchmarks/scale/run.py --records 50000 --workers 2 --python PYTHON_WITH_RAY

Memory is the largest of what the kernel says of the command itself (its resident set) and of the sums of proportional
set sizes (PSS) of it and its descendants, looked at every 0.2 s, where what Ray's processes share counts once. Rows are
added to the results; a row that is there is not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE)]

import log as made  # noqa: E402

DISCOVER = "discover"


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found, open_ = [], [pid]
    while open_:
        at = open_.pop()
        found.append(at)
        for task in Path(f"/proc/{at}/task").glob("*/children"):
            try:
                open_ += [int(c) for c in task.read_text().split()]
            except OSError:
                continue
    return found


def memory(pids: list[int]) -> int:
    """PSS in bytes; a process that is gone counts nothing."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(x.split()[1]) for x in text.splitlines() if x.startswith("Pss:")) << 10
    return total


def cpu(pids: list[int]) -> dict[int, float]:
    """Seconds of CPU by process, so far."""
    tick, seen = os.sysconf("SC_CLK_TCK"), {}
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        seen[pid] = (int(fields[11]) + int(fields[12])) / tick
    return seen


def measured(argv: list[str]) -> dict[str, Any]:
    """Peak memory, CPU and wall seconds of a command and its descendants."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "operator"), "OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    process = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak, spent = 0, {}
    ended, status = 0, 0
    while not ended:
        pids = tree(process.pid)
        peak = max(peak, memory(pids))
        spent |= cpu(pids)
        time.sleep(0.2)
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(argv[:6])} …: {process.stderr.read()[-500:] if process.stderr else ''}")
    spent[process.pid] = used.ru_utime + used.ru_stime
    return {
        "peak_mib": round(max(peak / 2**20, used.ru_maxrss / 2**10)),
        "cpu_seconds": round(sum(spent.values()), 1),
        "wall_seconds": round(time.monotonic() - began, 1),
    }


def one(records: int, cluster: str, workers: int, python: str, work: Path) -> dict[str, Any]:
    """A row of the results."""
    folder = work / f"{records}"
    made.write(folder, records)
    run = discover if cluster == DISCOVER else curate
    return {
        "records": records,
        "cluster": cluster,
        "workers": workers,
        "log_mib": round((folder / "log.jsonl").stat().st_size / 2**20),
        **run(folder, cluster, workers, python),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }


def curate(folder: Path, cluster: str, workers: int, python: str) -> dict[str, Any]:
    """One task's dataset."""
    out = folder / f"{cluster}-{workers}"
    argv = [
        python, "-m", "slmfleet.cli", "curate", "--records", str(folder / "log.jsonl"), "--clusters",
        str(folder / "found"), "--cluster", cluster, "--out", str(out),
    ]  # fmt: skip
    row = measured([*argv, *(["--workers", str(workers)] if workers else [])])
    report = json.loads((out / "report.json").read_text())
    rows = report["train"] + report["heldout"]
    return {"members": sum(report["answered"].values()), "rows": rows, "dataset": report["dataset_digest"], **row}


def discover(folder: Path, cluster: str, workers: int, python: str) -> dict[str, Any]:
    """The whole log's tasks, in the environment that discovery ships in; `rows` are tasks, `members` their calls."""
    out = folder / cluster
    argv = [sys.executable, "-m", "slmfleet.cli", "discover", "--records", str(folder / "log.jsonl"), "--out", str(out)]
    row = measured(argv)
    found = json.loads((out / "clusters.json").read_text())
    narrow = [each for each in found["clusters"] if each["narrow"]]
    return {"members": sum(each["size"] for each in narrow), "rows": len(narrow), "dataset": found["records_digest"],
            "sample_share": found["sample_share"], **row}  # fmt: skip


PREFACE = """# Discovery and curation as the log grows

A made log (`log.py`: labels, extraction with personal data, tool loops, long prompts, broken lines).

- `slmfleet curate`, from the file to the written dataset of one task: reading, recognition, filters, duplicates,
  redaction with the shipped model, leak test.
- `slmfleet discover` (rows "discover"), from the file to all its tasks, which the column "rows" counts then.

Peak memory is of the process tree; CPU is user and system time of all its processes. Goal: 1,000,000 records on 2 cores
without growing past 4 GB. Made by `make bench-scale` (`TASK=discover` for discovery).

| records | log, MiB | task | its calls | rows | Ray workers | peak, MiB | CPU, s | wall, s | records per CPU s | date |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def table(rows: list[dict[str, Any]]) -> str:
    """results.md. What was not measured is said to be a line through what was."""
    names = ("records", "log_mib", "cluster", "members", "rows", "workers", "peak_mib", "cpu_seconds", "wall_seconds")
    lines = []
    for row in rows:
        rate = round(row["records"] / row["cpu_seconds"])
        lines.append("| " + " | ".join(str(row[n]) for n in names) + f" | {rate} | {row['date']} |")
    alone = [r for r in rows if not r["workers"] and r["cluster"] == "sort"]
    said = [f"Machine: {rows[-1]['machine']}; other work ran on it, so wall time says little."]
    if len(alone) > 1 and alone[-1]["records"] < 1_000_000:
        a, b = alone[-2:]
        said.append(
            "Curation was not measured to 1,000,000 records here. "
            f"A line through the rows of {a['records']} and {b['records']} "
            f"gives {_line(a, b, 'peak_mib'):.0f} MiB and {_line(a, b, 'cpu_seconds'):.0f} CPU s there: an "
            "extrapolation, no measurement."
        )
    pairs = [(a, b) for a in alone for b in rows if b["workers"] and b["records"] == a["records"]]
    said += [
        f"With {b['workers']} workers of Ray the dataset of {b['records']} records "
        + ("is the same, byte for byte." if a["dataset"] == b["dataset"] else "DIFFERS.")
        + " Starting Ray costs most of what is more."
        for a, b in pairs
        if a["cluster"] == b["cluster"]
    ]
    said += [
        f"Of {r['records']} records, discovery sought tasks in {r['sample_share']:.2%} of the conversations and gave "
        "the other calls to them in a second reading."
        for r in rows
        if r.get("sample_share", 1) < 1
    ]
    said += sorted({row["note"] for row in rows if row.get("note")})
    return PREFACE + "\n".join([*lines, "", *(line + "\n" for line in said)]).rstrip() + "\n"


def _line(a: dict[str, Any], b: dict[str, Any], name: str) -> float:
    slope = (b[name] - a[name]) / (b["records"] - a["records"])
    return float(b[name] + slope * (1_000_000 - b["records"]))


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["workers"], row["cluster"], row["records"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", default=[50_000])
    parser.add_argument("--cluster", choices=(*made.TASKS, DISCOVER), default="sort")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has Ray, for --workers")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "slmfleet-scale")
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    chosen = parser.parse_args()
    rows = json.loads(chosen.out.read_text()) if chosen.out.is_file() else []
    for records in chosen.records:
        wanted = (records, chosen.cluster, chosen.workers)
        if any((r["records"], r["cluster"], r["workers"]) == wanted for r in rows):
            continue
        rows.append(one(*wanted, chosen.python, chosen.work))
        print(json.dumps(rows[-1]), flush=True)
        rows.sort(key=_order)
        chosen.out.write_text(json.dumps(rows, indent=1) + "\n")
        chosen.out.with_suffix(".md").write_text(table(rows))


if __name__ == "__main__":
    main()
