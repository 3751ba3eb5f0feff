"""Makes the golden files again: python tests/golden/curation/make.py. Look at the difference before you keep it."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT / "operator"), str(ROOT / "tests/unit/curation")]

from curation_samples import mixed  # noqa: E402

from slmfleet.curation import curate, discover, redact_file  # noqa: E402
from slmfleet.curation.sources import read_log  # noqa: E402

TEXTS = [
    "Hi, my name is Xaver Quandt, mail xaver.quandt@corp-mail.com or call +49 170 1234567.",
    "Pay from DE89 3704 0044 0532 0130 00 with card 4111 1111 1111 1111, ssn 123-45-6789.",
    "Deploy with password: Tr0ub4dor&3 and key sk-proj-aB3dE5fG7hJ9kL1mN3pQ5r to 203.0.113.77",
    "Nothing to hide here on 2026-03-02.",
]


def main() -> None:
    log, _ = mixed(70, broad=30)
    lines = [r.model_dump(mode="json", exclude_defaults=True) for r in log.records]
    (HERE / "records.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines), "utf-8")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = read_log(HERE / "records.jsonl")
        discover.write(discover.discover(log, discover.Settings()), folder)
        clusters = json.loads((folder / "clusters.json").read_text("utf-8"))["clusters"]
        shown = [{k: c[k] for k in ("name", "size", "description", "signature", "output_format")} for c in clusters]
        (HERE / "clusters.json").write_text(json.dumps(shown, indent=1) + "\n", "utf-8")
        (HERE / "assignments.jsonl").write_bytes((folder / "assignments.jsonl").read_bytes())
        settings = curate.Settings(shown[0]["name"], min_examples=10)
        done = curate.curate(log, curate.read_clusters(folder), settings)
        curate.write(done, log, settings, folder / "dataset")
        (HERE / "report.json").write_bytes((folder / "dataset/report.json").read_bytes())
    texts = [{"id": str(i), "text": t} for i, t in enumerate(TEXTS)]
    (HERE / "texts.jsonl").write_text("".join(json.dumps(x) + "\n" for x in texts), "utf-8")
    redact_file.redact_file(HERE / "texts.jsonl", HERE / "texts.redacted.jsonl", HERE / "texts.report.json")


if __name__ == "__main__":
    main()
