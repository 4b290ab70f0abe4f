"""Rendered corpora: `build` makes one, `describe` writes its captions."""
