"""The corpus: sources of music, the build that decodes them, the manifest, and clips cut from it."""

from musiclm.data.corpus.build import BuildReport, build_corpus
from musiclm.data.corpus.manifest import CorpusError, Track, load_manifest
from musiclm.data.corpus.show import describe_corpus

__all__ = ["BuildReport", "CorpusError", "Track", "build_corpus", "describe_corpus", "load_manifest"]
