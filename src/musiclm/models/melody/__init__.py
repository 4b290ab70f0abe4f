"""The melody encoder: embeddings and tokens that follow a melody whoever plays it (MusicLM, section 3.4)."""
