"""Ways to name the styles. A name that speaks of an instrument or of a metre is used only where the window has it."""

import re

from musiclm.data.captions.wording import TABLES

STYLE_NAMES = TABLES["styles"]  # of `arrange.styles.STYLES`; what a name needs to be true is in `NEEDS`
NAMES = {**TABLES["genres"], **STYLE_NAMES}  # and of genres that labels tell
# a word in a name -> instruments of which one must sound
NEEDS: dict[str, tuple[str, ...]] = {
    "harpsichord": ("harpsichord",), "piano": ("piano", "bright piano", "honky-tonk piano"), "organ": ("church organ",),
    "music box": ("music box",), "koto": ("koto",),
    "guitar": ("nylon guitar", "acoustic guitar"),
    "orchestral": ("string section", "brass section", "french horn", "tremolo strings", "slow strings",
        "pizzicato strings"),
    "synth": ("square lead", "saw lead", "polysynth", "synth bass", "rubber synth bass", "warm pad", "synth strings",
        "synth brass", "sweep pad", "crystal synth"),
    "big band": ("brass section", "trumpet", "trombone", "tenor sax", "alto sax"),
    "drum": ("drum kit", "electronic drum kit", "808 drum machine", "room drum kit"),
    "beat": ("drum kit", "electronic drum kit", "808 drum machine", "room drum kit", "rock drum kit"),
    "boom bap": ("drum kit", "electronic drum kit", "808 drum machine", "room drum kit"),
    "drone": ("bowed pad", "sweep pad", "choir", "slow strings", "halo pad", "contrabass"),
    "band": ("brass section", "trumpet", "trombone", "tuba", "tenor sax", "alto sax", "clarinet", "piccolo"),
}  # fmt: skip
METRES = {
    "waltz": ("3/4",),
    "jig": ("6/8",),
    "twelve-eight": ("12/8",),
    "march": ("4/4", "2/4"),
    "reel": ("4/4", "2/2"),
}
QUARTET = ("violin", "viola", "cello", "contrabass")
# wider genres that name an instrument or would be false of some windows
UNSURE_GENRES = frozenset(
    {"piano", "acoustic", "orchestral", "hybrid", "percussive", "drone", "big band", "brass band"}
)
GENRE_NAMES = {
    "celtic": "Celtic", "french": "French", "latin": "Latin", "japanese": "Japanese", "indian": "Indian",
    "middle eastern": "Middle Eastern", "caribbean": "Caribbean", "world": "world music",
    "r&b": "R&B", "horror": "horror film music", "sacred": "sacred music", "western": "western film music",
    "dance": "dance music", "march": "march",
}  # fmt: skip
# names that are things themselves; others stand before "piece" or "track"
COUNTABLE = re.compile(
    r"(waltz|march|reel|jig|lullaby|ballad|tango|polka|\brag|quartet|chorale|theme|shanty|tune|song|nocturne|dance|beat|score|soundscape)$"
)
ADJECTIVES = re.compile(
    r"(orchestral|electronic|classical|baroque|medieval|ambient|Celtic|French|Latin|Japanese|Indian|Eastern|Caribbean|lounge|indie|drone)$"
)


def names_that_fit(style: str, instruments: set[str], metre: str) -> tuple[str, ...]:
    """The names of a style that are true beside these instruments and this metre. May be empty.

    Genres from labels have no such needs.
    """
    if style not in STYLE_NAMES:
        return NAMES.get(style, (style,))

    def fits(name: str) -> bool:
        if "quartet" in name:
            return len(instruments) >= 3 and instruments <= set(QUARTET)
        words = name.lower()
        if any(word in words and metre not in metres for word, metres in METRES.items()):
            return False
        return all(instruments & set(needed) for word, needed in NEEDS.items() if re.search(rf"\b{word}", words))

    return tuple(name for name in STYLE_NAMES[style] if fits(name))


def genres_that_fit(genres: tuple[str, ...], metre: str) -> tuple[str, ...]:
    found = (GENRE_NAMES.get(genre, genre) for genre in genres if genre not in UNSURE_GENRES)
    return tuple(name for name in found if not any(word in name and metre not in m for word, m in METRES.items()))
