#!/usr/bin/env bash
# The recipe of the bundle `base`, version 8, from nothing: download, corpus, labels, rendered music, every stage,
# bundle. Any part may be killed, and the script started again goes on where it stopped. Two lanes run side by side, a
# core each. How long the stages of v8 itself took, and what of them had its steps in parts, with other settings on the
# way: the model card.
#
# Needs Debian's apt-get and dpkg for the corpus, ffmpeg for tracker music, fluidsynth and soundfonts for what is
# rendered (musiclm corpus render names the packages). If they are there, it takes mma and drum kits
# (docs/training.md, "More music to render").
# Usage: [SOURCES=FOLDER] [MMA=FOLDER] [MELODY=1] runs/base.sh [FOLDER]
#   SOURCES: Nottingham, POP909, Groove MIDI, and finished works; without them other pieces are made
#   MMA: the program mma, unpacked; not needed if it is installed
#   MELODY=1: the bundle follows melodies, hummed or played
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-out/base}
musiclm=${MUSICLM:-musiclm}
python=${PYTHON:-python}
melody=${MELODY:-}
real=(--data "$folder/corpus" --runs "$folder/runs")
both=(--data "$folder/both" --runs "$folder/runs")
speeds=(--speed 0.8909 --speed 1.1225)  # two semitones down and up
# SoundStorm decodes in windows as long as the crops it learned from; 24 codes are all that it draws
sampling='{"acoustic": "storm", "levels": 24, "semantic": {"guidance": 3.0, "temperature": 1.0}, '
sampling+='"steer": {"again": 5.0, "beat": 3.0, "key": 0.6, "phrase_s": 16.0}, "storm": {"window_s": 10.24, '
sampling+='"prompt_s": 3.0, "first_window_s": 2.0, "rounds": [2], "temperature": 1.0, "rest_temperature": 1.0}}'

stage() { "$musiclm" train "$1" --preset base "${@:2}" --threads 1; }
# whole tracks, and recordings at two more speeds: the semantic stage learns by heart what it has too little of
tokens() {
    "$musiclm" tokenize --jobs 1 "${both[@]}" --stream "$1"
    "$musiclm" tokenize --jobs 1 "${real[@]}" --stream "$1" "${speeds[@]}"
}
# codec and w2v-BERT learn from recordings alone; MuLan and what makes music from rendered music as well
sound() {
    stage soundstream "${real[@]}"
    "$musiclm" tokenize --jobs 1 "${both[@]}" --stream acoustic --max-seconds 120
}
meaning() {
    stage w2vbert "${real[@]}"
    tokens semantic
    stage mulan "${both[@]}"
    tokens mulan
}
# docs/decisions/019-melody.md
melodies() {
    "$musiclm" corpus melodies --num 300 --out "$folder/melodies" --jobs 1
    stage melody --data "$folder/melodies" --runs "$folder/runs"
    tokens melody
}
# a quarter of the crops rendered (docs/decisions/007-rendered-music-in-training.md)
language() {
    local told=()
    if [ -n "$melody" ]; then
        melodies
        told=(--set semantic.task.model.melody_levels=4)
    fi
    stage semantic "${both[@]}" --set semantic.task.rendered_share=0.25 "${told[@]}"
}
decoder() { stage storm "${both[@]}" --set storm.task.rendered_share=0.25; }
# two lanes side by side: `train all` does the same in a row, in twice the time, and trains coarse and fine stages too
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
more=()
if [ -n "${SOURCES:-}" ]; then more+=(--sources "$SOURCES" --works 0.12); fi
if [ -n "${MMA:-}" ]; then
    more+=(--bands 0.35 --mma "$MMA")
elif command -v mma >/dev/null; then
    more+=(--bands 0.35)
fi
"$musiclm" corpus render --hours 20 --seed 0 --out "$folder/rendered" "${more[@]}"
export OMP_NUM_THREADS=1
"$musiclm" label "$folder/corpus" --windows-per-track 3
"$musiclm" corpus merge "$folder/corpus" "$folder/rendered" --out "$folder/both"
lanes sound meaning
lanes decoder language
"$musiclm" bundle --runs "$folder/runs" --out "$folder/first" --name base --sampling "$sampling"
# last what leaves every code as it is: MuLan's text side, numbers of a tempo and moods beside wrong ones
# (docs/decisions/008-text-side-alone.md, 009), and the codec's decoder against discriminators of magnitudes (013)
alone() { stage "$1" --from "$folder/first" --data "$2" --runs "$folder/last"; }
words() { alone mulan-text "$folder/both"; }
texture() { alone soundstream-decoder "$folder/corpus"; }
lanes words texture
"$musiclm" bundle --runs "$folder/last" --from "$folder/first" --out "$folder/bundle" --name base \
    --notes docs/base-notes.md
"$musiclm" inspect "$folder/bundle"
