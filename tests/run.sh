#!/usr/bin/env bash
# Runs parts of the tests (or the demo) in the project's own environment, and prints what each part took.
#   tests/run.sh PART...      parts: lint unit clients kube node images serving e2e long demo demo-again crds bench
#                             bench-discovery bench-expressions bench-redaction bench-scale bench-simulate bench-training
#                             bench-extraction
set -uo pipefail
cd "$(dirname "$0")/.."
# Debian's interpreter makes the environment; Python of the user's choice may lack venv or ssl.
python=/usr/bin/python3
if [ ! -x "$python" ]; then python=$(command -v python3) || { echo "tests: python3 is missing; apt-get install python3" >&2; exit 1; }; fi
export PYTHONPATH="operator:trainers:examples:." PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
began=$(date +%s)
failed=()

minutes() { awk -v s="$1" 'BEGIN { printf "%.1f min", s / 60 }'; }

part() { # part NAME COMMAND...
    local name=$1 start; shift
    start=$(date +%s)
    echo "=== $name"
    if "$@"; then echo "=== $name: passed, $(minutes $(($(date +%s) - start)))"
    else failed+=("$name"); echo "=== $name: FAILED, $(minutes $(($(date +%s) - start)))"; fi
}

environment() { # environment NAME: its folder, made if it is missing
    "$python" images/environments.py "$1" | tee >(cat >&2) | tail -n 1
}

dev=$(environment dev) || exit 1
[ -x "$dev/bin/python" ] || { echo "tests: the environment of the tests could not be made (see above)" >&2; exit 1; }
export PATH="$dev/bin:$PATH"
SLMFLEET_NATIVE=$("$python" images/native.py) || exit 1
export SLMFLEET_NATIVE
pytest() { "$dev/bin/python" -m pytest "$@"; }

heavy() { # the environments of the trainer and the server
    SLMFLEET_TRAIN_PYTHON="$(environment train)/bin/python" || return 1
    SLMFLEET_SERVE_PYTHON="$(environment serve)/bin/python" || return 1
    export SLMFLEET_TRAIN_PYTHON SLMFLEET_SERVE_PYTHON
}

clients() { # clients MARKS: other people's programs, in their own environment, against the real gateway process
    local environment
    environment="$(environment clients)" && "$environment/bin/python" -m pytest tests/clients -m "$1" -q
}

bench_discovery() {
    local peer
    peer="$(environment bench-discovery)" &&
        "$dev/bin/python" benchmarks/discovery/meaning.py --peer-python "$peer/bin/python" \
            --out benchmarks/discovery/meaning.md ${QUICK:+--quick} &&
        "$dev/bin/python" benchmarks/discovery/applications.py --out benchmarks/discovery/applications.md
}

bench_training() {
    local train peer
    train="$(environment train)" && peer="$(environment bench-training)" &&
        "$dev/bin/python" benchmarks/training/run.py --train-python "$train/bin/python" \
            --peer-python "$peer/bin/python" --out benchmarks/training/results.md ${QUICK:+--quick}
}

lint() {
    "$dev/bin/ruff" check . && "$dev/bin/mypy" -p slmfleet && "$dev/bin/lint-imports"
}

self_contained() { # the slim images, and the trainer with its own environment inside
    "$python" images/build.py all --target slim && "$python" images/build.py trainer --target full
}

bench_scale() { # with the interpreter that has Ray, so that both ways are measured in one environment
    "$dev/bin/python" benchmarks/scale/run.py --records ${RECORDS:-50000} --workers "${WORKERS:-0}" \
        --cluster "${TASK:-sort}" \
        --python "$SLMFLEET_TRAIN_PYTHON"
}

run_part() {
    case $1 in
        lint) part lint lint ;;
        unit) part "unit tests" pytest -n 2 tests/unit tests/docs tests/devcluster -m "not kube and not node and not serving and not e2e and not long" -q ;;
        clients) part "others' clients of the gateway" clients "clients and not long" ;;
        kube) part "API server tests" pytest -n 2 --dist loadfile tests/kube -m "kube and not long" -q ;;
        node) part "development cluster" pytest tests/devcluster -m "node and not long" -q ;;
        images) part "images" self_contained ;;
        serving) part "environments" heavy && part "Triton and Ray" pytest tests/serving -m "serving and not long" -q ;;
        e2e) part "environments" heavy && part "end to end" pytest tests/e2e -m "e2e and not long" -q -s -x ;;
        long) part "long unit tests" pytest tests/unit -m long -q
              part "others' clients of the gateway" clients clients
              part "environments" heavy && part "every recipe of training" pytest tests/serving -m "serving and long" -q
              part "environments" heavy && part "long tests" pytest tests/e2e -m e2e -q -s ;;
        demo) part "demo" "$dev/bin/python" -m demo.run ;;
        demo-again) part "demo again" "$dev/bin/python" -m demo.again ;;
        bench-simulate) part "planner beside others, simulated" "$dev/bin/python" benchmarks/simulate/run.py --out benchmarks/simulate/results.md ;;
        bench) part "gateway beside others" "$dev/bin/python" benchmarks/gateway/run.py ${QUICK:+--quick} ;;
        bench-discovery) part "discovery by meaning beside others" bench_discovery ;;
        bench-expressions) part "RE2 beside re" "$dev/bin/python" benchmarks/expressions/run.py --out benchmarks/expressions/results.md ;;
        bench-redaction)
            part "redaction beside Presidio" "$dev/bin/python" benchmarks/redaction/run.py ${QUICK:+--quick} --out benchmarks/redaction/results.md \
                --peer "$(environment redaction)/bin/python" ;;
        bench-scale) part "environments" heavy && part "curation as the log grows" bench_scale ;;
        bench-training) part "trainer beside trl" bench_training ;;
        bench-extraction) part "environments" heavy && part "what extracted adapters keep" "$dev/bin/python" \
            benchmarks/training/extraction.py --train-python "$SLMFLEET_TRAIN_PYTHON" \
            --out benchmarks/training/extraction.md ${QUICK:+--quick} ;;
        crds) part "CRDs" "$dev/bin/python" -m slmfleet.cli crds --out crds --chart charts/slmfleet/templates/crds ;;
        *) echo "tests: there is no part $1" >&2; exit 2 ;;
    esac
}

for name in "$@"; do run_part "$name"; done
echo "=== all parts: $(minutes $(($(date +%s) - began)))"
if [ ${#failed[@]} -gt 0 ]; then echo "=== failed: ${failed[*]}"; exit 1; fi
