#!/usr/bin/env bash
# How fast one GPU trains and makes music at the larger sizes, in at most twelve minutes: tokens a second and utilisation of every stage, real-time factor at
# batch 1, 8 and 32, first sound, codec. Weights are random; nothing is downloaded. Without a GPU every figure says that it was not measured.
# Two results side by side: musiclm bench --compare before.json after.json
# Usage: [SIZE="paper large"] [DEVICE=cuda] [MINUTES=11] [TFLOPS=989] [SECONDS_OF_MUSIC=30] [BATCHES="1 8 32"] runs/gpu.sh [FILE.json]
# Its lines on a CPU, in a minute or two: SIZE=tiny DEVICE=cpu SECONDS_OF_MUSIC=2 BATCHES="1 2" runs/gpu.sh out/gpu-tiny.json
set -euo pipefail
cd "$(dirname "$0")/.."
musiclm=${MUSICLM:-musiclm}
device=${DEVICE:-cuda}
# dense bf16 of an H100 or H200 (SXM); on a CPU, what a large matrix product reaches there
tflops=${TFLOPS:-989}
options=(--device "$device" --minutes "${MINUTES:-11}" --duration "${SECONDS_OF_MUSIC:-30}" --out "${1:-out/gpu.json}")
for preset in ${SIZE:-paper large}; do options+=(--preset "$preset"); done
for batch in ${BATCHES:-1 8 32}; do options+=(--batch "$batch"); done
[[ $device == cpu ]] || options+=(--gpu-tflops "$tflops")

"$musiclm" bench "${options[@]}"
