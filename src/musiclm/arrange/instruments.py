"""Instruments as a person names them, on the General MIDI sounds that stand for them.

`low` and `high` bound what the arranger writes: where the instrument sounds like itself, not all that a virtuoso can
reach. Drum kits and hand percussion are played on the drum channel; their pitches are keys of the General MIDI drum
map.
"""

from dataclasses import dataclass
from typing import Literal

from musiclm.arrange.score import Role

Family = Literal[
    "piano", "keyboard", "organ", "mallets", "guitar", "bass", "strings", "voices", "brass", "reeds", "winds", "synth",
    "plucked", "drums", "percussion"
]  # fmt: skip
# how a note ends: plucked and struck sounds die away by themselves, bowed and blown ones last as long as they are held
Decay = Literal["plucked", "struck", "sustained"]


@dataclass(frozen=True, kw_only=True)
class Instrument:
    program: int  # General MIDI, 0 to 127; of a kit, the program on the drum channel
    family: Family
    low: int  # lowest pitch written, MIDI
    high: int
    roles: tuple[Role, ...]
    decay: Decay
    drum_keys: tuple[int, ...] = ()  # of hand percussion: the keys it owns on the drum channel
    drive: float = 0.0  # 0 clean to 1 heavily distorted, done by the renderer
    electric: bool = False  # amplified or electronic, against acoustic

    @property
    def on_drum_channel(self) -> bool:
        return bool(self.drum_keys) or self.family == "drums"


def _tuned(
    program: int,
    family: Family,
    low: int,
    high: int,
    roles: str,
    decay: Decay,
    drive: float = 0.0,
    electric: bool = False,
) -> Instrument:
    return Instrument(
        program=program,
        family=family,
        low=low,
        high=high,
        roles=tuple(_ROLES[letter] for letter in roles),
        decay=decay,
        drive=drive,
        electric=electric,
    )


def _kit(program: int, electric: bool = False) -> Instrument:
    return Instrument(
        program=program, family="drums", low=27, high=87, roles=("drums",), decay="struck", electric=electric
    )


def _hand(*keys: int) -> Instrument:
    return Instrument(
        program=0,
        family="percussion",
        low=min(keys),
        high=max(keys),
        roles=("percussion",),
        decay="struck",
        drum_keys=keys,
    )


_ROLES: dict[str, Role] = {
    "m": "melody",
    "k": "countermelody",
    "r": "riff",
    "c": "chords",
    "a": "arpeggio",
    "p": "pad",
    "b": "bass",
    "x": "percussion",
    "e": "effects",
}

INSTRUMENTS: dict[str, Instrument] = {
    "piano": _tuned(0, "piano", 28, 100, "mkcarbp", "struck"),
    "bright piano": _tuned(1, "piano", 33, 100, "mcar", "struck"),
    "honky-tonk piano": _tuned(3, "piano", 33, 96, "mca", "struck"),
    "electric piano": _tuned(4, "keyboard", 36, 96, "mkcar", "struck", electric=True),
    "FM electric piano": _tuned(5, "keyboard", 36, 96, "mkca", "struck", electric=True),
    "harpsichord": _tuned(6, "keyboard", 36, 88, "mkcab", "plucked"),
    "clavinet": _tuned(7, "keyboard", 36, 84, "rca", "plucked", electric=True),
    "celesta": _tuned(8, "mallets", 60, 103, "mka", "struck"),
    "glockenspiel": _tuned(9, "mallets", 72, 103, "mka", "struck"),
    "music box": _tuned(10, "mallets", 60, 96, "mkca", "struck"),
    "vibraphone": _tuned(11, "mallets", 53, 89, "mkca", "struck"),
    "marimba": _tuned(12, "mallets", 45, 91, "mkcar", "struck"),
    "xylophone": _tuned(13, "mallets", 65, 103, "mkr", "struck"),
    "tubular bells": _tuned(14, "mallets", 60, 77, "ke", "struck"),
    "dulcimer": _tuned(15, "plucked", 50, 84, "mkac", "struck"),
    "hammond organ": _tuned(16, "organ", 36, 91, "mkcp", "sustained", electric=True),
    "rock organ": _tuned(18, "organ", 36, 91, "mkcpr", "sustained", electric=True),
    "church organ": _tuned(19, "organ", 36, 91, "mkcpba", "sustained"),
    "accordion": _tuned(21, "reeds", 53, 89, "mkcp", "sustained"),
    "harmonica": _tuned(22, "reeds", 60, 88, "mk", "sustained"),
    "bandoneon": _tuned(23, "reeds", 50, 88, "mkc", "sustained"),
    "nylon guitar": _tuned(24, "guitar", 40, 81, "mkcar", "plucked"),
    "acoustic guitar": _tuned(25, "guitar", 40, 83, "mkcar", "plucked"),
    "jazz guitar": _tuned(26, "guitar", 40, 84, "mkca", "plucked", electric=True),
    "clean electric guitar": _tuned(27, "guitar", 40, 86, "mkcar", "plucked", drive=0.05, electric=True),
    "muted electric guitar": _tuned(28, "guitar", 40, 76, "rca", "plucked", electric=True),
    "overdriven guitar": _tuned(29, "guitar", 40, 86, "mkrc", "sustained", drive=0.45, electric=True),
    "distorted guitar": _tuned(30, "guitar", 38, 88, "mkrc", "sustained", drive=0.8, electric=True),
    "double bass": _tuned(32, "bass", 28, 60, "b", "plucked"),
    "electric bass": _tuned(33, "bass", 28, 60, "br", "plucked", electric=True),
    "picked bass": _tuned(34, "bass", 28, 60, "br", "plucked", electric=True),
    "fretless bass": _tuned(35, "bass", 28, 62, "bm", "plucked", electric=True),
    "slap bass": _tuned(36, "bass", 28, 60, "br", "plucked", electric=True),
    "synth bass": _tuned(38, "bass", 26, 60, "br", "sustained", electric=True),
    "rubber synth bass": _tuned(39, "bass", 26, 60, "br", "sustained", electric=True),
    "violin": _tuned(40, "strings", 55, 98, "mk", "sustained"),
    "viola": _tuned(41, "strings", 48, 86, "mkcp", "sustained"),
    "cello": _tuned(42, "strings", 36, 74, "mkbr", "sustained"),
    "contrabass": _tuned(43, "strings", 28, 57, "b", "sustained"),
    "tremolo strings": _tuned(44, "strings", 40, 88, "pc", "sustained"),
    "pizzicato strings": _tuned(45, "strings", 40, 88, "mkcabr", "plucked"),
    "harp": _tuned(46, "plucked", 36, 96, "mkca", "plucked"),
    "timpani": _tuned(47, "percussion", 38, 57, "x", "struck"),
    "string section": _tuned(48, "strings", 36, 96, "mkcpra", "sustained"),
    "slow strings": _tuned(49, "strings", 36, 91, "kp", "sustained"),
    "synth strings": _tuned(50, "synth", 36, 91, "kpc", "sustained", electric=True),
    "choir": _tuned(52, "voices", 48, 81, "kpm", "sustained"),
    "synth voice": _tuned(54, "voices", 48, 84, "mkp", "sustained", electric=True),
    "trumpet": _tuned(56, "brass", 55, 84, "mk", "sustained"),
    "trombone": _tuned(57, "brass", 41, 70, "mkbcr", "sustained"),
    "tuba": _tuned(58, "brass", 29, 55, "b", "sustained"),
    "muted trumpet": _tuned(59, "brass", 55, 82, "mk", "sustained"),
    "french horn": _tuned(60, "brass", 41, 77, "mkpc", "sustained"),
    "brass section": _tuned(61, "brass", 43, 82, "mkrcp", "sustained"),
    "synth brass": _tuned(62, "synth", 43, 86, "mkrcp", "sustained", electric=True),
    "soprano sax": _tuned(64, "reeds", 56, 86, "mk", "sustained"),
    "alto sax": _tuned(65, "reeds", 50, 81, "mk", "sustained"),
    "tenor sax": _tuned(66, "reeds", 44, 76, "mk", "sustained"),
    "oboe": _tuned(68, "reeds", 58, 88, "mk", "sustained"),
    "english horn": _tuned(69, "reeds", 52, 81, "mk", "sustained"),
    "bassoon": _tuned(70, "reeds", 34, 70, "mkb", "sustained"),
    "clarinet": _tuned(71, "reeds", 50, 89, "mk", "sustained"),
    "piccolo": _tuned(72, "winds", 74, 102, "mk", "sustained"),
    "flute": _tuned(73, "winds", 60, 95, "mk", "sustained"),
    "recorder": _tuned(74, "winds", 67, 96, "mk", "sustained"),
    "pan flute": _tuned(75, "winds", 60, 93, "mk", "sustained"),
    "shakuhachi": _tuned(77, "winds", 55, 86, "mk", "sustained"),
    "tin whistle": _tuned(78, "winds", 72, 98, "mk", "sustained"),
    "ocarina": _tuned(79, "winds", 65, 93, "mk", "sustained"),
    "square lead": _tuned(80, "synth", 43, 96, "mkrcab", "sustained", electric=True),
    "saw lead": _tuned(81, "synth", 36, 96, "mkrcab", "sustained", electric=True),
    "calliope lead": _tuned(82, "synth", 55, 91, "mk", "sustained", electric=True),
    "charang lead": _tuned(84, "synth", 43, 88, "mkr", "sustained", drive=0.2, electric=True),
    "fifths lead": _tuned(86, "synth", 43, 84, "mr", "sustained", electric=True),
    "warm pad": _tuned(89, "synth", 36, 91, "pc", "sustained", electric=True),
    "polysynth": _tuned(90, "synth", 36, 91, "pcarm", "sustained", electric=True),
    "new age pad": _tuned(88, "synth", 40, 91, "pa", "sustained", electric=True),
    "bowed pad": _tuned(92, "synth", 40, 88, "p", "sustained", electric=True),
    "halo pad": _tuned(94, "synth", 40, 88, "p", "sustained", electric=True),
    "sweep pad": _tuned(95, "synth", 40, 88, "p", "sustained", electric=True),
    "crystal synth": _tuned(98, "synth", 52, 96, "mka", "struck", electric=True),
    "sitar": _tuned(104, "plucked", 48, 84, "mka", "plucked"),
    "banjo": _tuned(105, "plucked", 48, 84, "mkca", "plucked"),
    "shamisen": _tuned(106, "plucked", 48, 84, "mk", "plucked"),
    "koto": _tuned(107, "plucked", 50, 88, "mkca", "plucked"),
    "kalimba": _tuned(108, "mallets", 55, 88, "mkar", "plucked"),
    "bagpipes": _tuned(109, "reeds", 60, 84, "mkp", "sustained"),
    "fiddle": _tuned(110, "strings", 55, 93, "mk", "sustained"),
    "steel drums": _tuned(114, "mallets", 55, 88, "mkca", "struck"),
    "taiko drums": _tuned(116, "percussion", 40, 60, "x", "struck"),
    "reverse cymbal": _tuned(119, "percussion", 55, 65, "e", "sustained"),
    # what no style calls for, but finished pieces do
    "electric grand piano": _tuned(2, "piano", 28, 100, "", "struck", electric=True),
    "percussive organ": _tuned(17, "organ", 36, 91, "", "sustained", electric=True),
    "reed organ": _tuned(20, "organ", 36, 91, "", "sustained"),
    "guitar harmonics": _tuned(31, "guitar", 40, 96, "", "plucked", electric=True),
    "thumbed slap bass": _tuned(37, "bass", 28, 60, "", "plucked", electric=True),
    "soft synth strings": _tuned(51, "synth", 36, 91, "", "sustained", electric=True),
    "voice oohs": _tuned(53, "voices", 48, 84, "", "sustained"),
    "orchestra hit": _tuned(55, "synth", 36, 84, "", "struck", electric=True),
    "soft synth brass": _tuned(63, "synth", 43, 86, "", "sustained", electric=True),
    "baritone sax": _tuned(67, "reeds", 36, 72, "", "sustained"),
    "blown bottle": _tuned(76, "winds", 60, 96, "", "sustained"),
    "chiff lead": _tuned(83, "synth", 43, 96, "", "sustained", electric=True),
    "voice lead": _tuned(85, "voices", 43, 88, "", "sustained", electric=True),
    "bass and lead synth": _tuned(87, "synth", 28, 88, "", "sustained", electric=True),
    "choir pad": _tuned(91, "voices", 40, 88, "", "sustained", electric=True),
    "metallic pad": _tuned(93, "synth", 40, 88, "", "sustained", electric=True),
    "rain synth": _tuned(96, "synth", 36, 96, "", "struck", electric=True),
    "soundtrack pad": _tuned(97, "synth", 36, 91, "", "sustained", electric=True),
    "atmosphere synth": _tuned(99, "synth", 36, 91, "", "struck", electric=True),
    "brightness synth": _tuned(100, "synth", 36, 91, "", "sustained", electric=True),
    "goblin synth": _tuned(101, "synth", 36, 91, "", "sustained", electric=True),
    "echo synth": _tuned(102, "synth", 36, 91, "", "sustained", electric=True),
    "sci-fi synth": _tuned(103, "synth", 36, 91, "", "sustained", electric=True),
    "shanai": _tuned(111, "reeds", 55, 84, "", "sustained"),
    "tinkle bell": _tuned(112, "mallets", 60, 103, "", "struck"),
    "tuned agogo": _tuned(113, "percussion", 55, 88, "", "struck"),
    "tuned woodblock": _tuned(115, "percussion", 48, 88, "", "struck"),
    "tuned toms": _tuned(117, "percussion", 36, 84, "", "struck"),
    "synth drum": _tuned(118, "percussion", 36, 84, "", "struck", electric=True),
    "fret noise": _tuned(120, "percussion", 36, 84, "", "struck"),
    "breath noise": _tuned(121, "percussion", 36, 84, "", "sustained"),
    "seashore": _tuned(122, "percussion", 36, 84, "", "sustained"),
    "birdsong": _tuned(123, "percussion", 36, 84, "", "sustained"),
    "telephone": _tuned(124, "percussion", 36, 84, "", "sustained"),
    "helicopter": _tuned(125, "percussion", 36, 84, "", "sustained"),
    "applause": _tuned(126, "percussion", 36, 84, "", "sustained"),
    "gunshot": _tuned(127, "percussion", 36, 84, "", "struck"),
    "drum kit": _kit(0),
    "room drum kit": _kit(8),
    "rock drum kit": _kit(16),
    "electronic drum kit": _kit(24, electric=True),
    "808 drum machine": _kit(25, electric=True),
    "jazz drum kit": _kit(32),
    "brushed drums": _kit(40),
    "orchestral drums": _kit(48),
    "congas": _hand(62, 63, 64),
    "bongos": _hand(60, 61),
    "timbales": _hand(65, 66),
    "agogo bells": _hand(67, 68),
    "shaker": _hand(70, 82),
    "tambourine": _hand(54),
    "hand claps": _hand(39),
    "castanets": _hand(85),
    "claves": _hand(75),
    "cowbell": _hand(56),
    "triangle": _hand(80, 81),
    "woodblock": _hand(76, 77),
    "vibraslap": _hand(58),
    "cabasa": _hand(69),
    "referee whistle": _hand(71, 72),
    "guiro": _hand(73, 74),
    "cuica": _hand(78, 79),
    "jingle bells": _hand(83),
    "bell tree": _hand(84),
    "surdo": _hand(86, 87),
}
