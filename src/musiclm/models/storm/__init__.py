"""SoundStorm: all acoustic levels in parallel, level by level (arXiv 2305.09636)."""
