"""From a style and a seed to a score: form, chords, melodies, accompaniment, drums."""
