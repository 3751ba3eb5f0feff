"""Makes a trace for `slmfleet simulate` of Azure's LLM inference traces: arrivals and lengths of production calls.

    python examples/simulate/azure_trace.py AzureLLMInferenceTrace_conv.csv --specialists 20 --out calls.jsonl.gz

The columns TIMESTAMP, ContextTokens and GeneratedTokens are those of
https://github.com/Azure/AzurePublicDataset (CC BY 4.0). They do not say which task a call was, so each call gets a
specialist by a Zipf law: the k-th most frequent task has a share proportional to 1 / k^exponent. Which task that is,
is drawn for each call by itself, from a seed: tasks have no times of day and no lengths of their own.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import accumulate, islice
from pathlib import Path

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def main() -> None:
    options = _options()
    names = [f"task-{number:03d}" for number in range(options.specialists)]
    shares = list(accumulate((number + 1) ** -options.exponent for number in range(len(names))))
    rng = random.Random(options.seed)
    lines = [
        json.dumps({"time": time, "specialist": rng.choices(names, cum_weights=shares)[0],
                    "input_tokens": round(context * options.shorten),
                    "output_tokens": max(1, round(generated * options.shorten))})
        for time, context, generated in islice(_rows(options.trace), options.calls)
    ]
    data = ("\n".join(lines) + "\n").encode()
    options.out.write_bytes(gzip.compress(data, mtime=0) if options.out.suffix == ".gz" else data)
    print(f"{len(lines)} calls of {len(names)} specialists in {options.out}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path, help="CSV with TIMESTAMP, ContextTokens, GeneratedTokens")
    parser.add_argument("--specialists", type=int, default=20)
    parser.add_argument("--exponent", type=float, default=1.0, help="of the Zipf law; 0 is uniform")
    parser.add_argument("--shorten", type=float, default=1.0, help="factor on both lengths: tasks of agents are short")
    parser.add_argument("--calls", type=int, help="only the first ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help=".jsonl or .jsonl.gz")
    return parser.parse_args()


def _rows(path: Path) -> Iterator[tuple[str, int, int]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
            sys.exit(f"{path}: no column {missing[0]}")
        for row in reader:
            time = datetime.fromisoformat(row["TIMESTAMP"]).replace(tzinfo=UTC)
            yield time.isoformat(), int(row["ContextTokens"]), int(row["GeneratedTokens"])


if __name__ == "__main__":
    main()
