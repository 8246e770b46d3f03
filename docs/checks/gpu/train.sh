#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Train on another machine that has a GPU and no network, from the newest weights on.
#
#   train.sh pack IMAGES [MB]         here: photographs (30 MB unless told) and the
#                                     packages that machine lacks, into .gpu/ (ignored)
#   train.sh run [STEPS] [KEY=VALUE ...]
#                                     there, in the checkout: train, export, copy to $OUT
#   train.sh join FOLDER RUN          here: put the pieces of a checkpoint together
#
# `run` needs python3 with torch and lightning; polycodec is not installed, the checkout
# is used as it is. It stops in time for a limit on one call (SECONDS_TO_TRAIN, 420),
# goes on where the last call stopped if its run is still there, and leaves in $OUT the
# exported weights, the log, and the checkpoint in pieces of 15 MB. REHEARSE=1 skips what
# asks for a GPU, for a try with run.accelerator=cpu.
set -euo pipefail
here=$(realpath "$0")
cd "$(dirname "$0")/../../.."
root=$PWD
data=.gpu
run=${RUN:-runs/gpu}
python=${PYTHON:-python3}

# The checkout's folders come last: one has the name of NVIDIA's package `cuda`, which
# torch may import. -P keeps the current folder from coming first.
polycodec() {
    exec "$python" -P -c "import sys; sys.path.append('$root')
from polycodec.cli.main import main; main()" "$@"
}

pack() {
    local images=$1 limit=$((${2:-30} * 1000000)) sum=0 size
    rm -rf "$data"
    mkdir -p "$data/images" "$data/wheels"
    # In the order of their names' hashes: any first part is a fair sample.
    find "$images" -type f \( -name '*.avif' -o -name '*.png' -o -name '*.jpg' \
        -o -name '*.webp' \) -size -800k -print0 |
        while IFS= read -r -d '' path; do
            printf '%s %s\n' "$(basename "$path" | md5sum | cut -c1-32)" "$path"
        done | sort | while read -r key path; do
        size=$(stat -c %s "$path")
        sum=$((sum + size))
        [ "$sum" -le "$limit" ] || continue
        cp "$path" "$data/images/${key:0:8}-$(basename "$path")"
    done
    # Pillow: an older one may lack AVIF.
    "$python" -m pip download -q -d "$data/wheels" --only-binary=:all: \
        --python-version 3.12 --platform manylinux_2_28_x86_64 \
        --platform manylinux2014_x86_64 'pydantic>=2.6' 'Pillow>=11.3'
    du -sh "$data/images" "$data/wheels"
}

run() {
    local steps=20000 left=${SECONDS_TO_TRAIN:-420} resume=()
    if [[ ${1:-} =~ ^[0-9]+$ ]]; then
        steps=$1
        shift
    fi
    export PYTHONUNBUFFERED=1
    if [ -z "${REHEARSE:-}" ]; then
        local wheel
        for wheel in "$data"/wheels/*.whl; do
            "$python" -m zipfile -e "$wheel" /tmp/gpu-site
        done
        export PYTHONPATH=/tmp/gpu-site
        "$python" -P - <<'PYTHON'
import lightning, numpy, torch
from PIL import features
assert torch.cuda.is_available(), "no CUDA device here"
assert features.check("avif"), "this Pillow has no AVIF: pack again"
print(torch.cuda.get_device_name(), torch.__version__, numpy.__version__)
PYTHON
    fi
    if [ -f "$run/last.pt" ]; then
        resume=(--resume)
    else
        resume=("run.init=codecs/weights/image-default.safetensors")
    fi
    status=0
    export -f polycodec
    export python root
    timeout "$left" bash -c 'polycodec "$@"' - train configs/image/default.yaml \
        "data.train=$data/images" "data.cache=/tmp/gpu-cache" "run.out=$run" \
        "run.steps=$steps" run.accelerator=cuda run.compile=true \
        run.precision=bf16-mixed data.batch=64 data.crop=256 run.save_every=250 \
        eval.every=2000 "${resume[@]}" "$@" || status=$?
    # 124: the time was up, and the last checkpoint counts.
    case $status in 0 | 124) ;; *) return "$status" ;; esac
    if [ ! -f "$run/last.pt" ]; then
        echo "no checkpoint yet; give it more SECONDS_TO_TRAIN than $left" >&2
        return 1
    fi
    timeout 100 bash -c 'polycodec "$@"' - export "$run" ||
        echo "not exported; the checkpoint is whole"
    [ -n "${OUT:-}" ] || return 0
    cp "$run/codec.safetensors" "$run/codec.json" "$OUT"/ 2>/dev/null || true
    tail -n 20000 "$run/log.jsonl" >"$OUT/log.jsonl"
    split -b 15000000 -d -a 1 "$run/last.pt" "$OUT/last.pt."
}

join() {
    mkdir -p "$2"
    cat "$1"/last.pt.[0-9] >"$2/last.pt"
    cp "$1"/codec.* "$1/log.jsonl" "$2"/ 2>/dev/null || true
    ls -l "$2"
}

case ${1:-} in
pack | run | join) "$@" ;;
*)
    sed -n '5,15s/^# \{0,1\}//p' "$here" >&2
    exit 2
    ;;
esac
