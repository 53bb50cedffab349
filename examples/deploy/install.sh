#!/bin/sh
# Installs Strandline, as uv.lock says, from a checkout into a directory of its own: install.sh DIRECTORY [EXTRA...]
# Needs Python 3.11 or newer with venv, and the network; not root. What runs it later needs the same Python only.
set -eu

target=${1:?"usage: install.sh DIRECTORY [EXTRA...]"}
shift
checkout=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-/usr/bin/python3}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/uv"
"$work/uv/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir 'uv>=0.9,<1'

for extra in "$@"; do
    set -- "$@" --extra "$extra"
    shift
done
# A link to a file in a cache that is removed below would be a second copy, so: no cache. Compiled once here, since
# whoever runs it may not write there.
UV_PROJECT_ENVIRONMENT=$target "$work/uv/bin/uv" sync --quiet --project "$checkout" --frozen --no-dev --no-editable \
    --no-cache --compile-bytecode --python "$python" "$@"
"$target/bin/strandline" --version
