"""What `--help` of a command ends with: command lines as they are used. Each is tried against its command's options."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "discover": (
        "slmfleet discover --records calls.jsonl --out found/",
        'slmfleet discover --records "logs/**/*.jsonl.gz" --source otel --rejected aside.jsonl --out found/',
        "slmfleet discover --records store/usage --identity key.txt --previous last-week/ --out found/",
    ),
    "redact": (
        "slmfleet redact --records calls.jsonl --out clean.jsonl --report report.json",
        "slmfleet redact --records texts.jsonl.gz --out clean.jsonl.gz --report report.json --deny names.txt",
    ),
    "curate": (
        "slmfleet curate --records calls.jsonl --clusters found/ --cluster intent-play-book --out dataset/",
        "slmfleet curate --records calls.jsonl --clusters found/ --cluster label-card --out dataset/ "
        "--since 2026-03-01T00:00:00Z --languages en,de --min-examples 500",
    ),
    "select": (
        "slmfleet select --cluster intent-play-book --clusters found/ --models charts/slmfleet/files --max-memory 8Gi",
    ),
    "train": (
        "slmfleet train --dataset dataset/ --base base/ --method lora --out adapter/",
        "slmfleet train --dataset dataset/ --base base/ --method full --extract-adapter --out adapter/",
    ),
    "evaluate": (
        "slmfleet evaluate --dataset dataset/ --model adapter/ --base base/ --out evaluation.json",
    ),
    "verdict": ("slmfleet verdict --pairs pairs.jsonl --margin 0.02 --alpha 0.01 --json",),
    "simulate": ("slmfleet simulate --trace calls.csv --fleet fleet.yaml --system slmfleet --system hpa",),
    "gateway": ("slmfleet gateway --table table.yaml --listen 127.0.0.1:8080 --admin 127.0.0.1:9090 --store store/",),
    "explain-route": (
        'slmfleet explain-route --classifier found/classifier.npz --prompt "my card has not arrived"',
        "slmfleet explain-route --table table.yaml --store store/ --request call.json",
        "kubectl slm explain-route support-agents --store store/ --request call.json",
    ),
    "clean": ("slmfleet clean --store store/ --folder artifacts/intents-0123456789 --dry-run",),
    "keys": (
        "slmfleet keys --out key.txt",
        "slmfleet keys rewrap --store store/ --identity key.txt --recipient age1…",
    ),
    "crds": ("slmfleet crds --out crds/",),
    "status": ("kubectl slm status intents -n agents",),
}


def epilog(command: str) -> str | None:
    """For typer: a line each."""
    lines = EXAMPLES.get(command)
    return "\n\n".join(["Examples:" if len(lines) > 1 else "Example:", *lines]) if lines else None
