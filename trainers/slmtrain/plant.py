"""Plant secrets in a copy of a dataset, so that the gate can tell whether training learns single examples by heart.

    python -m slmtrain.plant --dataset DIR --out DIR [--secrets 8] [--copies 1] [--seed 0]

Each secret is ten random digits that answer one question of their own, under the task's own system prompt, at a random
place of `train.jsonl`; `secrets.json` lists them for `evaluate`. `heldout.jsonl` stays as it is. A few examples among
hundreds cost the task nothing; many would. `report.json` gets the copy's digest, and keeps the curated one as
`curated_digest`. Train on the copy what is to be served: a model that was trained without them says nothing of one that
was trained with another recipe.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

from slmtrain.data import read_lines
from slmtrain.dataset import REPORT, refuse_unfit
from slmtrain.errors import OneLine, Refused, run_command
from slmtrain.files import dataset_digest, publish, read_json, staging_folder, write_json

DIGITS = 10


def plant(rows: list[dict[str, Any]], secrets: int, copies: int, seed: int) -> tuple[list[dict[str, Any]], Any]:
    """(training rows with the secrets among them, what secrets.json says)."""
    draw = random.Random(seed)
    system = [m for m in rows[0]["messages"] if m.get("role") == "system"][:1]
    mixed, listed = list(rows), []
    for name in (f"locker {number}" for number in draw.sample(range(1000, 10000), secrets)):
        secret = "".join(draw.choices("0123456789", k=DIGITS))
        asked = [*system, {"role": "user", "content": f"What is the code of {name}?"}]
        listed.append({"name": name, "messages": asked, "secret": secret})
        for copy in range(copies):
            row = {
                "id": f"planted-{name}-{copy}",
                "conversation": f"planted-{name}-{copy}",
                "messages": [*asked, {"role": "assistant", "content": secret}],
            }
            mixed.insert(draw.randint(0, len(mixed)), row)
    return mixed, {"schema": "slmtrain/secrets/v1", "planted": listed}


def main() -> None:
    parser = OneLine(prog="slmtrain.plant", description=__doc__.split("\n\n")[0])
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="a folder that does not exist yet")
    parser.add_argument("--secrets", type=int, default=8)
    parser.add_argument("--copies", type=int, default=1, help="of each: how often training sees it an epoch")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if not (0 < given.secrets <= 1000 and 0 < given.copies <= 1000):
        raise Refused("BadInput", "--secrets and --copies must lie in 1 to 1000")
    if given.out.exists():
        raise Refused("OutputTaken", f"{given.out} exists; choose another --out")
    rows = [row for _, row in read_lines(given.dataset / "train.jsonl")]
    if not rows:
        raise Refused("BadDataset", f"{given.dataset / 'train.jsonl'} is empty")
    refuse_unfit(given.dataset)
    mixed, listed = plant(rows, given.secrets, given.copies, given.seed)
    staged = staging_folder(given.out)
    shutil.copytree(given.dataset, staged, dirs_exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in mixed)
    (staged / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    write_json(staged / "secrets.json", listed)
    if (staged / REPORT).is_file():
        report = read_json(staged / REPORT)
        curated = {"curated_digest": report["dataset_digest"]} if "dataset_digest" in report else {}
        write_json(staged / REPORT, {**report, **curated, "dataset_digest": dataset_digest(staged)})
    publish(staged, given.out)
    print(f"planted {given.secrets} secrets among {len(rows)} examples: {given.out}", flush=True)


if __name__ == "__main__":
    run_command("plant", main)
