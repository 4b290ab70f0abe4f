"""What may be said of a piece of music, wherever it was learned: measured from a score, or likely by weak labels.

`musiclm.arrange.facts` makes facts of scores, `musiclm.data.captions.weak` of labels; `writer` and `slots` say them,
and nothing else.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Player:
    """An audible instrument, and what it plays."""

    instrument: str  # a name of `words.INSTRUMENT_NAMES`
    family: str = ""  # a name of `words.SOUNDS`; "": what it sounds like by nature is not sure enough to be said
    role: str  # of `writer.ORDER`; "unknown" where nobody told
    enters_s: float = 0.0  # first and last moment at which it sounds, from the window's beginning
    leaves_s: float = 0.0
    register: str = ""  # "high", "low"
    articulation: str = ""  # "staccato", "sustained"
    pace: str = ""  # "rapid", "slow" succession of notes
    repeats: bool = False  # the same bar, or pair of bars, over and over


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happens at a moment of the window."""

    kind: str  # "enters", "leaves", "fill", "roll", "crash", "stop"
    at_s: float
    instrument: str = ""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Of a window. Empty strings, None and empty tuples: nothing is sure enough to be said."""

    seconds: float
    style: str = ""  # a name of `naming.STYLE_NAMES`, or a genre that is said as it stands
    genres: tuple[str, ...] = ()  # other words for the style, wider ones as a rule
    era: str = ""
    moods: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()  # what such music is used in
    players: tuple[Player, ...] = ()
    tempo_bpm: int | None = None  # of the beat that a listener taps
    speed: str = ""  # "very slow", "slow", "medium", "fast", "very fast"
    tempo_change: str = ""  # "slower", "faster"
    key: str = ""  # "Eb major", "D dorian"
    metre: str = ""  # "3/4", "6/8", "4/4", ...
    swing: bool | None = None
    density: str = ""  # "sparse", "busy"
    dynamics: str = ""  # "louder", "softer"
    drums: bool | None = None  # drums or percussion; False: not one stroke, None: too few to speak of, or not known
    drum_sounds: tuple[str, ...] = ()  # prominent ones, of the table `drums`
    beat: tuple[str, ...] = ()  # "four on the floor", "backbeat", "steady beat"
    events: tuple[Event, ...] = ()  # in order of time
    section: str = ""  # of the piece's form, where the window lies in one
    ends: bool = False  # the piece comes to its end in the window
    complete: bool = False  # nothing sounds in the window but the players listed
    voices: bool | None = None  # a singer, a choir or a synthetic voice; False: none, None: not known
    electric: bool | None = None  # True: every instrument is, False: none is
    traits: tuple[str, ...] = ()  # "walking bass: double bass", "one chord"; rules of the grammar below `fact:`
    sound: tuple[str, ...] = ()  # of the recording: "reverberant", "muffled", ...; rules below `fact:` too
    singing: tuple[str, ...] = ()  # who sings: names of the table `singers`
    title: str = ""

    @property
    def has_roles(self) -> bool:
        """Whether it is known who plays melody, chords or bass. Labels do not tell, nor do many finished works."""
        roles = {player.role for player in self.players}
        return not roles <= {"unknown", "drums", "percussion", "effects"} or bool(roles and "unknown" not in roles)
