"""The autoregressive language models: semantic, coarse acoustic and fine acoustic (MusicLM, section 3.2)."""
