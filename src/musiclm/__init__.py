"""MusicLM: music from text, by SoundStream, w2v-BERT, MuLan and language models over their tokens."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from musiclm.generate.config import GenerateConfig
    from musiclm.generate.music import Music
    from musiclm.generate.session import MusicLM

__version__ = "0.1.0"
__all__ = ["GenerateConfig", "Music", "MusicLM", "__version__"]


def __getattr__(name: str) -> Any:
    """Loads torch and the models only when one of the names above is asked for, so that `import musiclm` is quick."""
    if name in ("GenerateConfig", "Music", "MusicLM"):
        from musiclm.generate import config, music, session

        return {"GenerateConfig": config.GenerateConfig, "Music": music.Music, "MusicLM": session.MusicLM}[name]
    raise AttributeError(f"module 'musiclm' has no attribute {name!r}")
