"""From a score to sound, by soundfonts and a synthesizer, and to a MIDI file."""
