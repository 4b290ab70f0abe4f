#!/usr/bin/env bash
# The recipe of the bundle `base`: download, corpus, labels, every stage, bundle. Hours on two CPU cores; any part may be killed, and the
# script started again goes on where it stopped. Needs Debian's apt-get and dpkg for the corpus, and ffmpeg for tracker music.
# Usage: runs/base.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-out/base}
musiclm=${MUSICLM:-musiclm}
python=${PYTHON:-python}
# SoundStorm decodes in windows as long as the crops it learned from; four levels, because with all of them it flutters more (dev/LOG.md)
sampling='{"acoustic": "storm", "semantic": {"guidance": 3.0}, "storm": {"window_s": 5.0, "prompt_s": 1.5, "temperature": 0.7, "rest_temperature": 0.6}, "levels": 4}'

"$python" -m pip install --quiet --no-deps musicnn==0.1.0   # weak labels; its TensorFlow is not needed
"$musiclm" corpus build debian-games --out "$folder/corpus" --cache "$folder/packages"
"$musiclm" train all --preset base --data "$folder/corpus" --runs "$folder/runs" --name base --threads 2
"$musiclm" bundle --runs "$folder/runs" --out "$folder/bundle" --name base --notes docs/base-notes.md --sampling "$sampling"
"$musiclm" inspect "$folder/bundle"
