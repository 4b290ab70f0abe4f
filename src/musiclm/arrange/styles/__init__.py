"""All styles by name."""

from musiclm.arrange.styles.classical import CLASSICAL
from musiclm.arrange.styles.electronic import ELECTRONIC
from musiclm.arrange.styles.groove import GROOVE
from musiclm.arrange.styles.recipe import Line, Sound, Style, Tune
from musiclm.arrange.styles.rock import ROCK
from musiclm.arrange.styles.scenes import SCENES
from musiclm.arrange.styles.world import WORLD

STYLES: dict[str, Style] = {style.name: style for style in (*ROCK, *ELECTRONIC, *GROOVE, *WORLD, *CLASSICAL, *SCENES)}

__all__ = ["STYLES", "Line", "Sound", "Style", "Tune"]
