"""What models learn from: a corpus of recordings, labels and captions, and the store of tokens."""
