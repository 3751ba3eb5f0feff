#!/bin/sh
# Inside a build: makes /opt/slmfleet/env of a lock file. Torch is what $TORCH and $TORCH_INDEX say; see the Dockerfiles.
set -eu
lock=$1
if [ -e /run/secrets/environment ]; then . /run/secrets/environment; fi
export PYC_INVALIDATION_MODE=UNCHECKED_HASH UV_LINK_MODE=copy UV_NO_CACHE=1

python3 -m venv /build/uv
/build/uv/bin/pip install --quiet --no-cache-dir "uv==$UV_VERSION"
uv=/build/uv/bin/uv
env=/opt/slmfleet/env

# The lock without torch and what only its CUDA build needs; each entry goes on in indented lines.
awk '/^[^ ]/ { keep = !/^(torch==|triton==|nvidia-c|nvidia-n|cuda-)/ } keep' "$lock" >/build/rest.txt
version=$(sed -n 's/^torch==\([^ ;\\]*\).*/\1/p' "$lock" | head -n 1)

if [ "$TORCH" = debian ]; then
    $uv venv --quiet --system-site-packages --python /usr/bin/python3 $env
    $uv pip install --quiet --no-deps --require-hashes --compile-bytecode --python $env/bin/python -r /build/rest.txt
elif [ -n "$TORCH_INDEX" ]; then
    $uv venv --quiet --python /usr/bin/python3 $env
    $uv pip install --quiet --no-deps --require-hashes --compile-bytecode --python $env/bin/python -r /build/rest.txt
    $uv pip install --quiet --compile-bytecode --python $env/bin/python --index-url "$TORCH_INDEX" "torch==$version"
else
    $uv venv --quiet --python /usr/bin/python3 $env
    $uv pip sync --quiet --require-hashes --compile-bytecode --python $env/bin/python "$lock"
fi

# Triton looks for its Python stub beside the backend; the wheel keeps one for each version of Python elsewhere.
for server in $env/lib/python3.*/site-packages/pytriton/tritonserver; do
    [ -d "$server" ] || continue
    minor=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    stub=$(find "$server" -name triton_python_backend_stub -path "*$minor*" | head -n 1)
    cp "$stub" "$server/backends/python/triton_python_backend_stub"
    chmod 755 "$server/backends/python/triton_python_backend_stub" "$server/bin/tritonserver"
done
rm -rf /build /root/.cache
