#!/usr/bin/env bash
# Trains every stage of the chain from a handful of clips and makes music with the result: minutes on two CPU cores.
# Usage: runs/tiny.sh [FOLDER OF AUDIO] [OUTPUT FOLDER]. Each stage must beat its printed baseline, or the script fails.
set -euo pipefail
cd "$(dirname "$0")/.."
audio=${1:-tests/data/clips}
out=${2:-out/tiny}
musiclm=${MUSICLM:-musiclm}
python=${PYTHON:-python}

"$musiclm" corpus build "$audio" --out "$out/corpus" --no-progress
"$musiclm" train all --preset tiny --data "$out/corpus" --runs "$out/runs" --name tiny
"$python" runs/check_tiny.py "$out/runs"
"$musiclm" generate "a calm piano piece" --duration 4 --model "$out/runs/bundle" -o "$out/storm.wav"
"$musiclm" generate "a calm piano piece" --duration 4 --acoustic ar --model "$out/runs/bundle" -o "$out/ar.wav"
