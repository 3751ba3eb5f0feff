"""Is the model alive? One real token, with a deadline: exit 0, or 1 and one line. For exec probes.

A server whose Python process died still says READY, so nothing less than an inference tells. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import urllib.error
import urllib.request


def main() -> None:
    parser = argparse.ArgumentParser(prog="probe.py", description=__doc__.split("\n\n")[0])
    listens = os.environ.get("SLM_HOST") or os.environ.get("SLM_POD_IP", "")
    here = "[::1]" if ":" in listens else "127.0.0.1"
    parser.add_argument("--url", default=f"http://{here}:{os.environ.get('SLM_HTTP_PORT', '8000')}")
    parser.add_argument("--adapter", help="probe this adapter instead of the base")
    parser.add_argument("--seconds", type=float, default=5.0, help="deadline")
    given = parser.parse_args()
    sampling = {"max_tokens": 1, **({"lora_name": given.adapter} if given.adapter else {})}
    body = {"text_input": "ok", "exclude_input_in_output": True, "sampling_parameters": json.dumps(sampling)}
    request = urllib.request.Request(
        f"{given.url}/v2/models/slm/generate", json.dumps(body).encode("utf-8"), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=given.seconds) as answer:
            tokens = json.load(answer)["num_output_tokens"]
    except urllib.error.HTTPError as error:
        raise SystemExit(f"probe.py: {error.code} {error.read(500).decode('utf-8', 'replace')}") from None
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"probe.py: no answer from {given.url} within {given.seconds} s: {error}") from None
    print(f"ok, {tokens} token")


if __name__ == "__main__":
    main()
