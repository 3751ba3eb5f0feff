"""Makes `data/`, the committed sample of public text that the demo's calls are built from.

    python -m demo.sample --from DIR      DIR has intents/, agent-logs/, traffic/ and LICENSES/

The demo always reads the committed sample, so its result never depends on what lies beside the clone. The same input
gives the same bytes. `data/SOURCES.json` names every source, its licence and how much of it was taken.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
import json
import random
import shutil
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "data"
SNIPS_UTTERANCES = 9100

SOURCES = {
    "snips": ("SNIPS natural language understanding benchmark", "CC0-1.0", "snips.LICENSE"),
    "banking77": ("BANKING77, PolyAI", "CC-BY-4.0", "banking77.LICENSE"),
    "metagpt": ("MetaGPT's recorded prompts and responses", "MIT", "metagpt-rsp-cache.LICENSE"),
    "agbenchmark": ("Auto-GPT benchmark logs of the Turbo agent", "MIT", "agent-agbenchmark.LICENSE"),
    "azure-conv": ("Azure LLM inference trace 2023, conversations", "CC-BY-4.0", "azure-llm-trace.LICENSE"),
}


def snips(folder: Path) -> list[list[str]]:
    """[intent, text], the same number of each intent, in a seeded order."""
    by_intent: dict[str, list[str]] = defaultdict(list)
    for line in (folder / "intents/snips.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        by_intent[row["intent"]].append(" ".join(row["text"].split()))
    draw = random.Random(0)
    rows = []
    for intent in sorted(by_intent):
        texts = sorted(set(by_intent[intent]))
        rows += [[intent, text] for text in draw.sample(texts, SNIPS_UTTERANCES // len(by_intent))]
    draw.shuffle(rows)
    return rows


def banking77(folder: Path) -> list[list[str]]:
    with (folder / "intents/banking77_train.csv").open(encoding="utf-8", newline="") as file:
        return [[row["category"], " ".join(row["text"].split())] for row in csv.DictReader(file)]


def metagpt(folder: Path) -> list[dict[str, Any]]:
    """{"prompt", "response"}; a response that was a tool's arguments is written as its JSON text."""
    cache = json.loads(gzip.decompress((folder / "agent-logs/metagpt-rsp_cache.json.gz").read_bytes()))
    return [
        {"prompt": prompt, "response": answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)}
        for prompt, answer in cache.items()
    ]


def agbenchmark(folder: Path) -> list[dict[str, Any]]:
    """{"run", "prompt", "response"}: a run is one test on one day, its calls in their order."""
    prompts, responses = (
        json.loads(gzip.decompress((folder / f"agent-logs/agbenchmark-turbo-{side}.json.gz").read_bytes()))
        for side in ("prompt", "response")
    )
    return [
        {"run": f"{test} {day}", "prompt": calls[number], "response": responses[test][day][number]["content"]}
        for test, days in prompts.items()
        for day, calls in sorted(days.items())
        for number in sorted(calls, key=int)
    ]


def azure(folder: Path) -> list[int]:
    """Milliseconds between one arrival and the next."""
    with (folder / "traffic/AzureLLMInferenceTrace_conv.csv").open(encoding="utf-8", newline="") as file:
        times = sorted(datetime.fromisoformat(row["TIMESTAMP"][:26]) for row in csv.DictReader(file))
    return [round((after - before).total_seconds() * 1000) for before, after in itertools.pairwise(times)]


def write(path: Path, lines: list[str]) -> None:
    """Gzip without a time in its header, so that the same lines are the same bytes."""
    path.write_bytes(gzip.compress("".join(line + "\n" for line in lines).encode(), 9, mtime=0))


def read(name: str) -> list[str]:
    """Lines of one file of the sample."""
    return gzip.decompress((HERE / name).read_bytes()).decode().split("\n")[:-1]


def make(folder: Path, out: Path) -> None:
    (out / "LICENSES").mkdir(parents=True, exist_ok=True)
    dump = lambda row: json.dumps(row, ensure_ascii=False, separators=(",", ":"))  # noqa: E731
    files = {
        "snips": ("snips.tsv.gz", ["\t".join(row) for row in snips(folder)]),
        "banking77": ("banking77.tsv.gz", ["\t".join(row) for row in banking77(folder)]),
        "metagpt": ("metagpt.jsonl.gz", [dump(row) for row in metagpt(folder)]),
        "agbenchmark": ("agbenchmark.jsonl.gz", [dump(row) for row in agbenchmark(folder)]),
        "azure-conv": ("azure-conv.txt.gz", [str(gap) for gap in azure(folder)]),
    }
    facts = {}
    for source, (name, lines) in files.items():
        title, licence, text = SOURCES[source]
        write(out / name, lines)
        shutil.copyfile(folder / "LICENSES" / text, out / "LICENSES" / text)
        text = f"LICENSES/{text}"
        facts[source] = {"file": name, "title": title, "licence": licence, "text": text, "rows": len(lines)}
    (out / "SOURCES.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="demo.sample", description=__doc__.split("\n\n")[0])
    parser.add_argument("--from", dest="folder", type=Path, required=True, help="folder with the public data")
    parser.add_argument("--out", type=Path, default=HERE)
    given = parser.parse_args()
    make(given.folder, given.out)


if __name__ == "__main__":
    main()
