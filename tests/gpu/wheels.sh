#!/usr/bin/env bash
# Downloads what run.sh installs on a machine without a network, into tests/gpu/wheels/ in parts
# that are small enough to be carried one by one: wheels/1/, wheels/2/, ... A wheel that is larger
# than a part is cut into pieces, which run.sh joins. Prints what each part has.
#
#     bash tests/gpu/wheels.sh [PYTHON [PACKAGE...]]     # PYTHON is one with pip and setuptools
#
# PACKAGEs travel too, at their newest version, without what they need: liger-kernel, bitsandbytes.
set -euo pipefail

python=$(realpath --no-symlinks "$(command -v "${1:-python3}")")
cd "$(dirname "$0")"
part_bytes=$((60 * 1024 * 1024))
rm -rf wheels
mkdir -p wheels/all

{
    grep -v '^#' wheels.txt | grep -v -x 'deepspeed\|rouge-score' | grep .
    printf '%s\n' "${@:2}"
} > wheels/binary.txt
"$python" -m pip download --quiet --no-deps --only-binary=:all: --dest wheels/all \
    --python-version 3.12 --implementation cp --abi cp312 --abi abi3 --abi none \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
    --platform manylinux_2_24_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 --platform manylinux_2_12_x86_64 \
    --platform manylinux_2_5_x86_64 --platform manylinux1_x86_64 --platform any \
    --constraint ../../constraints.txt --requirement wheels/binary.txt

# PyPI has the source alone of these. DeepSpeed compiles nothing at its installation; its ops would
# be compiled where they are used.
DS_BUILD_OPS=0 "$python" -m pip wheel --quiet --no-deps --no-build-isolation \
    --wheel-dir wheels/all --constraint ../../constraints.txt deepspeed rouge-score
# The wheel holds Python alone, though it is marked with the version that made it.
for wheel in wheels/all/deepspeed-*.whl; do
    universal=$(basename "$wheel" | sed -E 's/-cp[0-9]+-cp[0-9]+-linux_x86_64/-py3-none-any/')
    [ "wheels/all/$universal" = "$wheel" ] || mv "$wheel" "wheels/all/$universal"
done

for wheel in wheels/all/*.whl; do
    if [ "$(stat -c %s "$wheel")" -gt "$part_bytes" ]; then
        split --bytes=$((part_bytes * 3 / 4)) --numeric-suffixes "$wheel" "$wheel.piece-"
        rm "$wheel"
    fi
done

# Largest first, each into the first part that has room.
used=()
while read -r bytes file; do
    part=0
    while [ "${used[part]:-0}" -gt 0 ] && [ $((${used[part]} + bytes)) -gt "$part_bytes" ]; do
        part=$((part + 1))
    done
    used[part]=$((${used[part]:-0} + bytes))
    mkdir -p "wheels/$((part + 1))"
    mv "$file" "wheels/$((part + 1))/"
done < <(find wheels/all -type f -printf '%s %p\n' | sort -rn)
rm -r wheels/all wheels/binary.txt
for folder in wheels/*/; do
    echo "$(du -sm "$folder" | cut -f1) MiB  tests/gpu/$folder: $(ls "$folder" | wc -l) files"
done
