"""MusicLM: music from text, by SoundStream, w2v-BERT, MuLan and language models over their tokens."""

__version__ = "0.1.0"
