#!/usr/bin/env bash
# What only a GPU shows, in under 8 minutes: see README.md beside this file.
#
#     bash tests/gpu/run.sh [--only PART,...] [--seconds N] [--out FOLDER]     one NVIDIA GPU
#     PYTHON=.venv/bin/python bash tests/gpu/run.sh --cpu                      in small, on CPUs
#
# Where tests/gpu/wheels/ has wheels (wheels.sh), those that Python lacks or has in an older version
# are installed first, into a folder that is gone at the end. PYTHON is python3 by default; OUT, if
# set, is where the table goes.
set -euo pipefail
cd "$(dirname "$0")/../.."

python=${PYTHON:-python3}
SECONDS=0
if [ -d tests/gpu/wheels ]; then
    joined=$(mktemp -d)
    trap 'rm -rf "$joined"' EXIT
    for first in tests/gpu/wheels/*/*.piece-00; do
        [ -e "$first" ] || continue
        name=$(basename "$first" .piece-00)
        for piece in 00 01 02 03; do
            cat tests/gpu/wheels/*/"$name.piece-$piece" 2> /dev/null || break
        done > "$joined/$name"
    done
    "$python" tests/gpu/missing.py tests/gpu/wheels "$joined" \
        | xargs --no-run-if-empty "$python" -m pip install --quiet --no-index --no-deps \
            --no-compile --no-cache-dir --target "$joined/site"
    export PYTHONPATH="$joined/site${PYTHONPATH:+:$PYTHONPATH}"
fi

out=()
if [ -n "${OUT:-}" ]; then
    out=(--out "$OUT")
fi
"$python" -m tests.gpu.run "${out[@]}" --spent "$SECONDS" "$@"
