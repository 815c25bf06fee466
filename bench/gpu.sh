#!/usr/bin/env bash
# What a GPU gives: a step in each arithmetic, the pipeline that feeds it, prediction, and whole
# trainings of the presets, on TensorFlow and on jax (pip install "jax[cuda13]" for that).
#
#   bench/gpu.sh CAMVID [OUT]           an hour or two; OUT is gpu-bench/ where none is named
#   QUICK=1 bench/gpu.sh CAMVID [OUT]   a rehearsal with tiny settings, on any machine
#
# OUT/report.md is what is worth keeping; whatever fails is in it as such, and the rest goes on.
set -u
[ $# -ge 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
data=$(realpath "$1") out=$(realpath -m "${2:-gpu-bench}") root=$(realpath "$(dirname "$0")/..")
python=${PYTHON:-python} report=$out/report.md
export TF_CPP_MIN_LOG_LEVEL=3
mkdir -p "$out" && cd "$out" || exit 2
presets='fast transfer best' steps='--presets fast transfer best --batches 2 8 32' tiny=
if [ -n "${QUICK:-}" ]; then
    presets='fast best' tiny='--steps 2 --epochs 2 --filters 2'
    steps='--presets fast --batches 2 --size 48x64 --steps 2'
fi
gpus=$("$python" -c 'import tensorflow as tf; print(len(tf.config.list_physical_devices("GPU")))' 2>/dev/null)
gpus=${gpus:-0}

say() { printf '%s\n' "$@" | tee -a "$report"; }
note() { "$@" 2>&1 | tee -a "$report"; say ''; }
training() { # engine, devices, preset: one line of the table
    local name=$1-$2-$3 begin=$SECONDS line
    KERAS_BACKEND=$1 "$python" "$root/main.py" --data "$data" --preset "$3" --devices "$2" $tiny \
        --batch-size $((2 * $2)) --log "$name" --model "$name.hdf5" > "$name.log" 2>&1
    if [ $? = 0 ]; then
        line=$("$python" - "$name" <<'END'
import json, pathlib, sys
run = next(pathlib.Path(sys.argv[1]).glob('*/scores.json')).parent
scores = json.loads((run / 'scores.json').read_text())
print(f'{100 * scores["miou"]:.1f} ({scores["split"]})')
END
)
        say "| $3 | $1 | $2 | $((SECONDS - begin)) | $line |"
    else
        say "| $3 | $1 | $2 | fails | $(tail -n 1 "$name.log" | cut -c1-100) |"
    fi
}

: > "$report"
say "# $(date -I), $(nvidia-smi -L 2>/dev/null | tr '\n' ';' || true) $gpus GPUs, $(nproc) cores" ''
note "$python" -c 'import keras, tensorflow, sys; print(sys.version.split()[0], keras.__version__, tensorflow.__version__)'
say '## A step' ''
note "$python" "$root/bench/gpu.py" $steps
[ "$gpus" -gt 1 ] && note "$python" "$root/bench/gpu.py" $steps --devices "$gpus" --batches $((8 * gpus))
say '## The pipeline' ''
note "$python" "$root/bench/pipeline.py" ${QUICK:+1}
say '## Whole trainings, painting and report with them' ''
say '| preset | engine | devices | seconds | mIoU |' '|---|---|---|---|---|'
for preset in $presets; do
    for engine in tensorflow jax; do
        training $engine 1 $preset
        [ "$gpus" -gt 1 ] && training $engine "$gpus" $preset
    done
done
say '' "The steps' rows say whether bfloat16 and XLA, which are the defaults, are worth it here."
