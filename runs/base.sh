#!/usr/bin/env bash
# The recipe of the bundle `base`: download, corpus, labels, rendered music, every stage, bundle. v7 itself came stage by stage over several versions: its language models had their steps in parts (docs/training.md), its
# rendered pieces were made before the engine had a synthesizer, and MuLan's audio side learned before they lay at the levels of recordings. Hours on two CPU cores (docs/training.md has those of each stage); any
# part may be killed, and the script started again goes on where it stopped. Needs Debian's apt-get and dpkg for the corpus, ffmpeg for tracker music,
# fluidsynth and soundfonts for what is rendered (musiclm corpus render names the packages).
# Usage: [SOURCES=FOLDER] runs/base.sh [FOLDER]      SOURCES: Nottingham, POP909 and Groove MIDI; without them other pieces are made
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-out/base}
musiclm=${MUSICLM:-musiclm}
python=${PYTHON:-python}
sources=${SOURCES:+--sources $SOURCES}
real=(--data "$folder/corpus" --runs "$folder/runs")
both=(--data "$folder/both" --runs "$folder/runs")
# SoundStorm decodes in windows as long as the crops it learned from; four levels, because with all of them it flutters more (dev/LOG.md)
sampling='{"acoustic": "storm", "semantic": {"guidance": 3.0}, "storm": {"window_s": 5.0, "prompt_s": 1.5, "temperature": 0.7, "rest_temperature": 0.6}, "levels": 4}'

stage() { "$musiclm" train "$1" --preset base "${@:2}" --threads 1; }
# whole tracks, and recordings two semitones down and up as well: the semantic stage learns by heart what it has too little of
tokens() {
    "$musiclm" tokenize --jobs 1 "${both[@]}" --stream "$1"
    "$musiclm" tokenize --jobs 1 "${real[@]}" --stream "$1" --speed 0.8909 --speed 1.1225
}
# the codec and w2v-BERT learn from recordings alone; MuLan and the language models from rendered music as well
sound() {
    stage soundstream "${real[@]}"
    "$musiclm" tokenize --jobs 1 "${both[@]}" --stream acoustic --max-seconds 90
}
meaning() {
    stage w2vbert "${real[@]}"
    tokens semantic
    stage mulan "${both[@]}"
    tokens mulan
}
# two fifths of rendered music: docs/decisions/007-rendered-music-in-training.md
language() { stage semantic "${both[@]}" --set semantic.task.rendered_share=0.4; }
decoders() {
    stage storm "${both[@]}" --set storm.task.rendered_share=0.4
    stage coarse "${both[@]}" --set coarse.task.rendered_share=0.4
    stage fine "${real[@]}" --set fine.task.rendered_share=0
}
# two lanes side by side, a core each: `train all` does the same in a row, in twice the time
lanes() {
    "$1" & local first=$!
    "$2" & local second=$!
    local failed=0
    wait "$first" || failed=1
    wait "$second" || failed=1
    return "$failed"
}

"$python" -m pip install --quiet --no-deps musicnn==0.1.0   # weak labels; its TensorFlow is not needed
"$musiclm" corpus build debian-games --out "$folder/corpus" --cache "$folder/packages"
# shellcheck disable=SC2086  # $sources is two words, or none
"$musiclm" corpus render --hours 20 --seed 0 --out "$folder/rendered" $sources
export OMP_NUM_THREADS=1
"$musiclm" label "$folder/corpus" --windows-per-track 3
"$musiclm" corpus merge "$folder/corpus" "$folder/rendered" --out "$folder/both"
lanes sound meaning
lanes decoders language
"$musiclm" bundle --runs "$folder/runs" --out "$folder/first" --name base --sampling "$sampling"
# last what leaves every code as it is: MuLan's text side, numbers of a tempo and moods beside wrong ones (docs/decisions/008-text-side-alone.md, 009), and the
# codec's decoder against discriminators of magnitudes (011)
alone() { stage "$1" --from "$folder/first" --data "$2" --runs "$folder/last"; }
words() { alone mulan-text "$folder/both"; }
decoder() { alone soundstream-decoder "$folder/corpus"; }
lanes words decoder
"$musiclm" bundle --runs "$folder/last" --from "$folder/first" --out "$folder/bundle" --name base --notes docs/base-notes.md
"$musiclm" inspect "$folder/bundle"
