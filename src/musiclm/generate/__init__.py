"""From text to music with a bundle: the session, both acoustic decoders, sampling and steering."""
