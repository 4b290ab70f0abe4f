"""MuLan (arXiv 2208.12415): one space for music and text, and its residual quantizer (MusicLM, section 3.1)."""
