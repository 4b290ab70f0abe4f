"""Captions from weak labels, by the same grammar as those of scores (`sentences`), and never a guess.

`facts_of` turns tags and measures into facts and drops what is uncertain; a mood is only named where several measures
agree. The thresholds were set by ear and by the spread of scores over the `debian-games` corpus.
"""

import random
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from musiclm.core.theory import key_name, parse_key
from musiclm.data.captions import naming
from musiclm.data.captions.facts import Facts, Player
from musiclm.data.captions.sentences import Caption, write
from musiclm.data.captions.wording import TABLES
from musiclm.data.labels import WINDOW_S, Labels

LEAST_WORDS = {"tags": 2, "phrase": 2, "sentence": 5, "description": 14}  # labels know less than scores
KIND_WEIGHTS = {"tags": 3, "phrase": 3, "sentence": 4, "description": 5}
# tag of the tagger -> least score to believe it, and the genre. Scores of the MTT tagger run low: 0.3 is already rare.
GENRES: dict[str, tuple[float, str]] = {
    "techno": (0.35, "techno"),
    "electronic": (0.30, "electronic"),
    "dance": (0.35, "dance"),
    "ambient": (0.24, "ambient"),
    "classical": (0.25, "classical"),
    "rock": (0.25, "rock"),
    "metal": (0.12, "metal"),
    "pop": (0.20, "pop"),
    "country": (0.22, "country"),
    "new_age": (0.15, "new age"),
    "opera": (0.40, "opera"),
}
LIKELIEST_SHARE = 0.75  # of its least score: the likeliest genre is named from there on, if none is sure
# tag -> least score, and the class of instruments
INSTRUMENTS: dict[str, tuple[float, str]] = {
    "piano": (0.24, "any piano"),
    "strings": (0.22, "any strings"),
    "violin": (0.24, "any violin"),
    "cello": (0.18, "any cello"),
    "drums": (0.28, "any drums"),
    "synth": (0.25, "any synth"),
    "flute": (0.20, "any flute"),
    "harpsichord": (0.30, "any harpsichord"),
    "harp": (0.18, "any harp"),
    "sitar": (0.45, "any sitar"),
}
LEAST_GUITAR, LEAST_CHOIR = 0.28, 0.22
BEATS = ("beat", "beats", "drums", "techno", "dance")
VOICES = (
    *("vocal", "vocals", "singing", "voice", "female", "male", "woman", "man"),
    *("female_vocal", "male_vocal", "female_voice", "male_voice", "opera"),
)
TRACKER_SUFFIXES = (".mod", ".xm", ".it", ".s3m", ".stm", ".mptm", ".umx")
# what the genre field of a file says when it says nothing
EMPTY_GENRES = {"", "other", "(none)", "none", "music", "genre", "unknown", "sound fx", "instrumental"}


def captions(labels: Labels, rng: random.Random, *, held_out: bool = False) -> str:
    """The text of `caption`."""
    return caption(facts_of(labels), rng, held_out=held_out).text


def caption(facts: Facts, rng: random.Random, *, held_out: bool = False) -> Caption:
    """One caption of a kind drawn by `rng`; `held_out`: in wording that is kept from training.

    "music" where nothing is known.
    """
    for _ in range(4):  # a kind may find nothing to say
        kind = rng.choices(list(KIND_WEIGHTS), list(KIND_WEIGHTS.values()))[0]
        found = write(facts, kind, rng, held_out=held_out, least_words=LEAST_WORDS)
        if found.claims:
            break
    return found


def facts_of(labels: Labels) -> Facts:
    """What the labels are sure enough of. Who plays what, and where in the piece the window lies, they do not tell."""
    style, *wider = [*_genres(labels), ""]
    speed, bpm = _speed(labels)
    moods = _moods(labels, speed)
    title = _title(labels.title)
    singing = _singing(labels)
    return Facts(
        seconds=WINDOW_S,
        style=style,
        genres=tuple(naming.NAMES.get(genre, (genre,))[0] for genre in wider if genre),
        moods=moods,
        uses=_uses(labels, moods, title),
        players=_players(labels),
        tempo_bpm=bpm or None,
        speed=speed,
        key=_key(labels),
        drums=False if _has_no_beat(labels) else None,
        beat=("steady beat",) if labels.tempo_confidence > 0.4 and _score(labels, *BEATS) >= 0.3 else (),
        voices=True if singing else False if _is_instrumental(labels) else None,
        sound=_sound(labels),
        singing=singing,
        title=title,
    )


def _score(labels: Labels, *tags: str) -> float:
    """The highest score of these tags."""
    return max(labels.tags.get(tag, 0.0) for tag in tags)


def _genres(labels: Labels) -> list[str]:
    """Names of genres: the file's own, then those of the tagger, the surest first, then what the format tells."""
    found = []
    written = re.sub(r"\s+", " ", labels.genre.strip().lower())
    is_soundtrack = bool(re.search(r"game|vgm|sound ?track", written))
    if written not in EMPTY_GENRES and not is_soundtrack:
        found.append(written)
    sureness = {tag: _score(labels, tag) / least for tag, (least, _) in GENRES.items()}
    ranked = sorted(GENRES, key=lambda tag: -sureness[tag])
    sure = [tag for tag in ranked if sureness[tag] >= 1]
    if not sure and sureness[ranked[0]] > LIKELIEST_SHARE:
        sure = ranked[:1]
    found += [GENRES[tag][1] for tag in sure]
    if PurePosixPath(labels.origin.lower()).suffix in TRACKER_SUFFIXES:
        is_chip = _score(labels, "techno", "electronic", "synth", "dance") >= 0.4 and labels.brightness_hz > 2500
        found.append("chiptune" if is_chip else "tracker")
    if is_soundtrack:
        found.append("soundtrack")
    return list(dict.fromkeys(found))


def _players(labels: Labels) -> tuple[Player, ...]:
    names = [name for tag, (least, name) in INSTRUMENTS.items() if _score(labels, tag) >= least]
    if guitar := _guitar(labels):
        names.append(guitar)
    return tuple(Player(instrument=name, role="drums" if name == "any drums" else "unknown") for name in names)


def _guitar(labels: Labels) -> str:
    """The class of the guitar, "" for none: electric in loud rock, acoustic far from rock and machines."""
    if _score(labels, "rock", "metal") >= 0.3 and labels.level_db > -20:
        return "any electric guitar"
    if _score(labels, "guitar") >= 0.45 and _score(labels, "rock", "metal", "techno", "electronic") < 0.12:
        return "any acoustic guitar"
    return "any guitar" if _score(labels, "guitar") >= LEAST_GUITAR else ""


def _speed(labels: Labels) -> tuple[str, int]:
    """Fast, medium or slow where tagger, tempo and onsets agree; beats a minute where the beat is clear, else 0."""
    fast, slow = _score(labels, "fast"), _score(labels, "slow")
    sure = labels.tempo_confidence > 0.3
    bpm = round(labels.tempo_bpm) if labels.tempo_confidence > 0.45 else 0
    if fast > 0.3 and fast > 2 * slow and (not sure or labels.tempo_bpm > 100 or labels.onset_rate_hz > 5):
        return "fast", bpm if bpm > 100 else 0
    if sure and labels.tempo_bpm >= 138 and slow < 0.15 and labels.onset_rate_hz > 3:
        return "fast", bpm
    if slow > 0.28 and slow > 2 * fast and labels.onset_rate_hz < 4.5:
        return "slow", bpm if bpm < 100 else 0
    if sure and labels.tempo_bpm <= 82 and fast < 0.1 and labels.onset_rate_hz < 3.5:
        return "slow", bpm
    if sure and 95 <= labels.tempo_bpm <= 122 and fast < 0.25 and slow < 0.25:
        return "medium", bpm
    return "", bpm


def _key(labels: Labels) -> str:
    sure = labels.key_confidence > 0.75 and labels.key_margin > 0.1
    return key_name(*parse_key(labels.key)) if labels.key and sure else ""


def _has_no_beat(labels: Labels) -> bool:
    return _score(labels, *BEATS, "rock") < 0.05 and labels.onset_rate_hz < 3.5


def _is_instrumental(labels: Labels) -> bool:
    return _score(labels, *VOICES, "choir", "choral") < 0.08


def _singing(labels: Labels) -> tuple[str, ...]:
    """Names of the table `singers`."""
    found = ("choir",) if _score(labels, "choir") >= LEAST_CHOIR else ()
    if _score(labels, *VOICES) < 0.35:
        return found
    woman = _score(labels, "female", "woman", "female_vocal", "female_voice")
    man = _score(labels, "male", "man", "male_vocal", "male_voice")
    if woman > 0.3 and woman > 2 * man:
        return (*found, "female voice")
    return (*found, "male voice" if man > 0.3 and man > 2 * woman else "voice")


def _sound(labels: Labels) -> tuple[str, ...]:
    """Rules of the grammar below `fact:` that hold of level, range and spectrum."""
    rules = {
        "quiet": labels.level_db < -27,
        "loud": labels.level_db > -13 and labels.range_db < 12,
        "dynamic": labels.range_db > 18 and labels.level_db > -35,
        "bright": labels.brightness_hz > 3600,
        "dark-toned": labels.brightness_hz < 1000,
        "bass-heavy": labels.bass_share > 0.65 and labels.level_db > -30,
    }
    return tuple(name for name, holds in rules.items() if holds)


def _moods(labels: Labels, speed: str) -> tuple[str, ...]:
    """Moods on which several measures agree."""

    def score(*tags: str) -> float:
        return _score(labels, *tags)

    level_db, brightness_hz = labels.level_db, labels.brightness_hz
    sure_key = labels.key_confidence > 0.7
    minor, major = sure_key and labels.key.endswith("minor"), sure_key and labels.key.endswith("major")
    rules = {
        "energetic": speed == "fast" and level_db > -19 and labels.onset_rate_hz > 3,
        "aggressive": score("rock", "metal") > 0.3 and score("loud") > 0.25 and level_db > -16,
        "calm": score("slow", "ambient", "soft", "quiet", "new_age") > 0.28
        and speed != "fast"
        and score("loud", "rock", "techno") < 0.1
        and level_db < -22,
        "upbeat": speed == "fast" and major and score("metal", "ambient", "weird") < 0.15,
        "sad": minor
        and speed == "slow"
        and score("piano", "strings", "violin", "cello", "guitar") > 0.25
        and level_db <= -16,
        "dark": score("ambient") > 0.3 and minor and score("dance", "pop", "rock") < 0.1 and brightness_hz < 2200,
        "epic": score("classical", "strings", "violin") > 0.25
        and level_db > -17
        and score("techno", "dance", "guitar") < 0.15,
        "dreamy": score("ambient", "new_age") > 0.35 and score("synth", "electronic") > 0.1 and speed != "fast",
        "strange": score("weird") > 0.3,
    }
    return tuple(mood for mood, holds in rules.items() if holds)


def _title(title: str) -> str:
    """A title to be said: letters enough, no file name."""
    clean = re.sub(r"[_\s]+", " ", title).strip(" -.")
    if len(re.findall(r"[A-Za-z]", clean)) < 4 or len(clean) > 48 or re.search(r"\.\w{2,4}$|track ?\d", clean.lower()):
        return ""
    return clean


def _uses(labels: Labels, moods: tuple[str, ...], title: str) -> tuple[str, ...]:
    """What it is for: the kind of game it is from, words of its title or file name, what such moods go with."""
    names = " ".join((title, PurePosixPath(labels.origin).stem))
    spoken = re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", names).lower())
    sources: list[tuple[Mapping[str, tuple[str, ...]], tuple[str, ...]]] = [
        (TABLES["games"], (labels.package,)),
        (TABLES["title words"], tuple(spoken)),
        (TABLES["uses"], moods),
    ]
    found = [use for table, keys in sources for key in keys for use in table.get(key, ())]
    return tuple(dict.fromkeys(found))
