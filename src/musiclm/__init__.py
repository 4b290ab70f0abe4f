"""MusicLM: music from text, by SoundStream, w2v-BERT, MuLan and language models over their tokens."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from musiclm.generate.config import GenerateConfig
    from musiclm.generate.music import Music
    from musiclm.generate.session import MusicLM
    from musiclm.generate.story import Story

__version__ = "0.1.0"
__all__ = ["GenerateConfig", "Music", "MusicLM", "Story", "__version__"]


def __getattr__(name: str) -> Any:
    """Loads torch and the models only when one of the names above is asked for, so that `import musiclm` is quick."""
    if name in ("GenerateConfig", "Music", "MusicLM", "Story"):
        from musiclm.generate import config, music, session, story

        found = (config.GenerateConfig, music.Music, session.MusicLM, story.Story)
        return {one.__name__: one for one in found}[name]
    raise AttributeError(f"module 'musiclm' has no attribute {name!r}")
