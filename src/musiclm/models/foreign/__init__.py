"""Encoders made by others in the places of ours: codecs, self-supervised speech and music models, joint embeddings."""
