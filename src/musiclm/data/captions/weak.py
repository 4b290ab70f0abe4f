"""Captions from weak labels: tags, short phrases and sentences of varied wording, never the same twice and never a guess.

`facts` turns numbers into words and drops what is uncertain; `caption` picks some of the facts, words for them and a form: MuLan's
kinds of text (section 3.2: short tags, titles, sentences). A use such as "a boss fight" is only named where tempo, level and
tags agree on the mood. Vocabulary and thresholds are in `words`.
"""

import random
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from musiclm.data.captions import weak_words as words
from musiclm.data.labels import Labels

TRACKER_SUFFIXES = (".mod", ".xm", ".it", ".s3m", ".stm", ".mptm", ".umx")
# genre fields of real tags that say nothing
EMPTY_GENRES = {"", "other", "(none)", "none", "music", "genre", "unknown", "sound fx", "instrumental"}
SOUNDTRACK = ("video game soundtrack", "soundtrack", "game music")
MASS_NOUNS = {
    "techno",
    "rock",
    "electronica",
    "ambient",
    "edm",
    "folk",
    "metal",
    "pop",
    "classical",
    "electronic",
    "dance",
    "country",
}


@dataclass(frozen=True)
class Facts:
    """What may be said of a window; each entry is a tuple of ways to say one thing."""

    genres: list[tuple[str, ...]] = field(default_factory=list)
    instruments: list[tuple[str, ...]] = field(default_factory=list)
    moods: list[str] = field(default_factory=list)  # keys of words.MOODS
    speed: str = ""  # key of words.SPEEDS
    bpm: int = 0  # 0: not sure enough
    sound: list[tuple[str, ...]] = field(default_factory=list)  # level, brightness
    beat: tuple[str, ...] = ()
    voice: tuple[str, ...] = ()
    key: str = ""
    games: tuple[str, ...] = ()
    scenes: list[tuple[str, ...]] = field(default_factory=list)
    title: str = ""

    @property
    def descriptions(self) -> list[tuple[str, ...]]:
        """Everything but title, game and key, in no order."""
        found = [*self.genres, *self.instruments, *self.sound]
        found += [words.MOODS[mood] for mood in self.moods]
        found += [ways for ways in (words.SPEEDS.get(self.speed, ()), self.beat, self.voice) if ways]
        return found


def facts(labels: Labels) -> Facts:
    """What the labels are sure enough of. Thresholds were set by ear and by the scores' spread over the `debian-games` corpus."""
    tags = labels.tags

    def score(*names: str) -> float:
        return max(tags.get(name, 0.0) for name in names)

    tracker = PurePosixPath(labels.origin.lower()).suffix in TRACKER_SUFFIXES
    genres = [ways for tag, (least, ways) in words.GENRES.items() if score(tag) >= least]
    near = {tag: score(tag) / least for tag, (least, _) in words.GENRES.items()}
    if not genres and max(near.values()) > 0.75:
        genres = [words.GENRES[max(near, key=near.__getitem__)][1]]  # the likeliest one, where none is sure
    synthetic = score("techno", "electronic", "synth", "dance")
    if tracker:
        genres.append(words.CHIPTUNE if synthetic >= 0.4 and labels.brightness_hz > 2500 else words.TRACKER)
    genre = re.sub(r"\s+", " ", labels.genre.strip().lower())
    if genre not in EMPTY_GENRES:
        genres.append(SOUNDTRACK if re.search(r"game|vgm|sound ?track", genre) else (genre,))
    instruments = [ways for tag, (least, ways) in words.INSTRUMENTS.items() if tag != "guitar" and score(tag) >= least]
    if score("rock", "metal") >= 0.3 and labels.level_db > -20:
        instruments.append(words.ELECTRIC_GUITAR)
    elif score("guitar") >= 0.45 and score("rock", "metal", "techno", "electronic") < 0.12:
        instruments.append(words.ACOUSTIC_GUITAR)
    elif score("guitar") >= words.INSTRUMENTS["guitar"][0]:
        instruments.append(words.INSTRUMENTS["guitar"][1])

    speed, bpm = _speed(labels)
    sound = []
    if labels.level_db < -27:
        sound.append(words.LEVELS["quiet"])
    elif labels.level_db > -13 and labels.range_db < 12:
        sound.append(words.LEVELS["loud"])
    if labels.range_db > 18 and labels.level_db > -35:
        sound.append(words.LEVELS["swelling"])
    if labels.brightness_hz > 3600:
        sound.append(words.BRIGHTNESS["bright"])
    elif labels.brightness_hz < 1000:
        sound.append(words.BRIGHTNESS["dark"])
    if labels.bass_share > 0.65 and labels.level_db > -30:
        sound.append(words.BRIGHTNESS["bass"])
    beat: tuple[str, ...] = ()
    if labels.tempo_confidence > 0.4 and score("beat", "beats", "drums", "techno", "dance") >= 0.3:
        beat = words.STEADY_BEAT
    elif score("beat", "beats", "drums", "techno", "dance", "rock") < 0.05 and labels.onset_rate_hz < 3.5:
        beat = words.NO_BEAT
    title = _title(labels.title)
    return Facts(
        genres=genres,
        instruments=instruments,
        moods=_moods(labels, speed),
        speed=speed,
        bpm=bpm,
        sound=sound,
        beat=beat,
        voice=_voice(labels),
        key=labels.key if labels.key_confidence > 0.75 and labels.key_margin > 0.1 else "",
        games=tuple(words.GAMES[labels.package].split("|")) if labels.package in words.GAMES else (),
        scenes=_scenes(title, PurePosixPath(labels.origin).stem),
        title=title,
    )


def _speed(labels: Labels) -> tuple[str, int]:
    """Fast, medium or slow where tagger, tempo and onsets do not contradict each other; beats a minute where the beat is clear."""
    fast, slow = labels.tags.get("fast", 0.0), labels.tags.get("slow", 0.0)
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


def _voice(labels: Labels) -> tuple[str, ...]:
    names = (
        "vocal",
        "vocals",
        "singing",
        "voice",
        "female",
        "male",
        "woman",
        "man",
        "female_vocal",
        "male_vocal",
        "opera",
    )
    voice = max(labels.tags.get(name, 0.0) for name in names)
    woman = max(labels.tags.get(name, 0.0) for name in ("female", "woman", "female_vocal", "female_voice"))
    man = max(labels.tags.get(name, 0.0) for name in ("male", "man", "male_vocal", "male_voice"))
    if voice < 0.08 and max(labels.tags.get(name, 0.0) for name in ("choir", "choral")) < 0.08:
        return words.INSTRUMENTAL
    if voice < 0.35:
        return ()
    if woman > 0.3 and woman > 2 * man:
        return words.FEMALE_VOICE
    if man > 0.3 and man > 2 * woman:
        return words.MALE_VOICE
    return words.SOME_VOICE


def _moods(labels: Labels, speed: str) -> list[str]:
    """Moods on which several measures agree."""
    tags = labels.tags

    def score(*names: str) -> float:
        return max(tags.get(name, 0.0) for name in names)

    loud, soft = labels.level_db > -16, labels.level_db < -22
    sure_key = labels.key_confidence > 0.7
    minor, major = sure_key and labels.key.endswith("minor"), sure_key and labels.key.endswith("major")
    moods = []
    if speed == "fast" and labels.level_db > -19 and labels.onset_rate_hz > 3:
        moods.append("energetic")
    if score("rock", "metal") > 0.3 and score("loud") > 0.25 and loud:
        moods.append("aggressive")
    if (
        score("slow", "ambient", "soft", "quiet", "new_age") > 0.28
        and speed != "fast"
        and score("loud", "rock", "techno") < 0.1
        and soft
    ):
        moods.append("calm")
    if speed == "fast" and major and score("metal", "ambient", "weird") < 0.15:
        moods.append("upbeat")
    if minor and speed == "slow" and score("piano", "strings", "violin", "cello", "guitar") > 0.25 and not loud:
        moods.append("sad")
    if score("ambient") > 0.3 and minor and score("dance", "pop", "rock") < 0.1 and labels.brightness_hz < 2200:
        moods.append("dark")
    if (
        score("classical", "strings", "violin") > 0.25
        and labels.level_db > -17
        and score("techno", "dance", "guitar") < 0.15
    ):
        moods.append("epic")
    if score("ambient", "new_age") > 0.35 and score("synth", "electronic") > 0.1 and speed != "fast":
        moods.append("dreamy")
    if score("weird") > 0.3:
        moods.append("strange")
    return moods


def _title(title: str) -> str:
    """A title worth saying: letters enough, no file name."""
    clean = re.sub(r"[_\s]+", " ", title).strip(" -.")
    if len(re.findall(r"[A-Za-z]", clean)) < 4 or len(clean) > 48 or re.search(r"\.\w{2,4}$|track ?\d", clean.lower()):
        return ""
    return clean


def _scenes(*names: str) -> list[tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        for word in re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()):
            if word in words.SCENES:
                found[words.SCENES[word]] = tuple(words.SCENES[word].split("|"))
    return list(found.values())


def captions(labels: Labels, rng: random.Random) -> str:
    """One caption of the window, its facts, words and form drawn by `rng`. Never empty: with nothing known it is "music"."""
    return caption(facts(labels), rng)


def caption(known: Facts, rng: random.Random) -> str:
    """One caption of these facts."""
    forms = [(_tags, 3), (_phrase, 3), (_sentence, 4), (_sentences, 4)]
    if known.games or known.scenes:
        forms.append((_use, 2))
    if known.title:
        forms.append((_titled, 1))
    text = ""
    for _ in range(4):  # a form may find little to say; "a song." teaches nothing
        form = rng.choices([f for f, _ in forms], [w for _, w in forms])[0]
        text = re.sub(r"\s+([,.])", r"\1", re.sub(r"\s+", " ", form(known, rng))).strip(" ,")
        if len(text) > 14:
            break
    if not text:
        return "music"
    return text[0].upper() + text[1:] if rng.random() < 0.5 else text


def _some(options: list[tuple[str, ...]], most: int, rng: random.Random) -> list[str]:
    """Words for a random part of the options, at least one where there is one."""
    if not options:
        return []
    count = rng.randint(1, min(most, len(options)))
    return [rng.choice(ways) for ways in rng.sample(options, count)]


def _join(parts: list[str]) -> str:
    if len(parts) < 2:
        return "".join(parts)
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def _bare(text: str) -> str:
    """Without a leading article, for lists of tags."""
    return re.sub(r"^(a|an|the|at a|there are) ", "", text)


def _adjectives(known: Facts, rng: random.Random, most: int = 3) -> list[str]:
    options = [words.MOODS[mood] for mood in known.moods] + known.sound
    if known.speed:
        options.append(words.SPEEDS[known.speed])
    picked = _some(options, most, rng)
    return [
        word for word in picked if word.split()[0] not in ("at", "with", "full", "heavy", "deep", "strong", "booming")
    ]


def _noun(known: Facts, rng: random.Random) -> str:
    if known.genres and rng.random() < 0.75:
        return _bare(rng.choice(rng.choice(known.genres)))
    return rng.choice(
        (
            "music",
            "piece",
            "track",
            "instrumental" if known.voice == words.INSTRUMENTAL else "tune",
            "song",
            "composition",
        )
    )


def _tempo(known: Facts, rng: random.Random) -> str:
    if known.bpm and rng.random() < 0.5:
        near = known.bpm if rng.random() < 0.4 else 5 * round(known.bpm / 5)
        return rng.choice((f"{near} bpm", f"about {near} bpm", f"around {near} beats per minute", f"tempo {near}"))
    return rng.choice(words.SPEEDS[known.speed]) if known.speed else ""


def _tags(known: Facts, rng: random.Random) -> str:
    picked = [_bare(word) for word in _some(known.descriptions, 7, rng)]
    if known.key and rng.random() < 0.15:
        picked.append(known.key if rng.random() < 0.5 else known.key.split()[1] + " key")
    if known.bpm and rng.random() < 0.2:
        picked.append(_tempo(known, rng))
    if known.games and rng.random() < 0.15:
        picked.append(_bare(rng.choice(known.games)) + " music")
    rng.shuffle(picked)
    return rng.choice((", ", ", ", " ", "; ")).join(dict.fromkeys(picked))


def _phrase(known: Facts, rng: random.Random) -> str:
    adjectives, noun = _adjectives(known, rng, 2), _noun(known, rng)
    if known.instruments and rng.random() < 0.65:
        heard = _join(_some(known.instruments, 2, rng))
        link = rng.choice(("with", "with", "featuring", "led by", "played on"))
        return f"{' '.join(adjectives)} {noun} {link} {heard}"
    return f"{' '.join(adjectives)} {noun}"


def _opening(known: Facts, rng: random.Random) -> str:
    adjectives = _adjectives(known, rng, 2)
    noun = _noun(known, rng)
    body = f"{_join(adjectives) if rng.random() < 0.4 else ', '.join(adjectives)} {noun}".strip()
    article = "an" if body[:1].lower() in "aeiou" else "a"
    if noun.endswith(" music") or noun.lower() in {*MASS_NOUNS, "music"}:
        return rng.choice((body, f"this is {body}", f"some {body}", f"a piece of {body}"))
    return rng.choice((f"{article} {body}", f"this is {article} {body}", f"{article} {body}"))


def _sentence(known: Facts, rng: random.Random) -> str:
    text = _opening(known, rng)
    if known.instruments and rng.random() < 0.8:
        text += rng.choice(
            (" with ", " featuring ", ", in which one hears ", " played by ", " built on ", " driven by ")
        )
        text += _join(_some(known.instruments, 3, rng))
    if known.beat and rng.random() < 0.4:
        text += rng.choice((", ", " and ")) + rng.choice(known.beat)
    if (known.bpm or known.speed) and rng.random() < 0.3:
        text += f", {_tempo(known, rng)}"
    return text + _for(known, rng, 0.25) + "."


def _for(known: Facts, rng: random.Random, chance: float) -> str:
    """A use of the music, from its game, its name or a mood that fits."""
    options: list[tuple[str, ...]] = [words.USES[mood] for mood in known.moods] + known.scenes
    if known.games:
        options.append(known.games)
    if not options or rng.random() > chance:
        return ""
    use = rng.choice(rng.choice(options))
    return rng.choice((" for ", ", for ", ", suited to ", ", good for ")) + use


def _sentences(known: Facts, rng: random.Random) -> str:
    """Two to five short sentences, as listeners write when asked to describe a clip."""
    parts = [_opening(known, rng)]
    more = []
    if known.instruments:
        heard = _join(_some(known.instruments, 3, rng))
        more.append(
            rng.choice(
                (f"It features {heard}", f"The main sound is {heard}", f"One can hear {heard}", f"There is {heard}", f"{heard} can be heard",
                 f"The arrangement has {heard}", f"The melody and backing come from {heard}")
            )
        )  # fmt: skip
    if known.speed:
        pace = {"slow": "slow", "medium": "moderate", "fast": "fast"}[known.speed]
        more.append(
            rng.choice(
                (
                    f"The tempo is {pace}",
                    f"It is {rng.choice(words.SPEEDS[known.speed])}",
                    f"It is played at a {pace} tempo",
                )
            )
        )
    if known.bpm and rng.random() < 0.5:
        more.append(
            rng.choice(
                (f"The tempo is about {known.bpm} bpm", f"It moves at {5 * round(known.bpm / 5)} beats per minute")
            )
        )
    if known.moods:
        mood = _join([rng.choice(words.MOODS[m]) for m in rng.sample(known.moods, min(2, len(known.moods)))])
        more.append(
            rng.choice((f"The mood is {mood}", f"It feels {mood}", f"The atmosphere is {mood}", f"It sounds {mood}"))
        )
    if known.sound:
        sound = _join(_some(known.sound, 2, rng))
        more.append(rng.choice((f"The sound is {sound}", f"Overall it is {sound}", f"The recording is {sound}")))
    if known.beat:
        beat = rng.choice(known.beat)
        more.append(rng.choice((f"There is {beat}", f"It has {beat}")))
    if known.voice:
        voice = rng.choice(known.voice)
        if known.voice == words.INSTRUMENTAL:
            voice = rng.choice(
                (
                    "It is instrumental",
                    "There are no vocals",
                    "There is no singer",
                    "No one sings",
                    "This is an instrumental piece",
                )
            )
        else:
            voice = f"There is {voice}"
        more.append(voice)
    if known.key and rng.random() < 0.3:
        more.append(
            rng.choice((f"It is in {known.key}", f"The key is {known.key}", f"It is in a {known.key.split()[1]} key"))
        )
    uses: list[tuple[str, ...]] = (
        [words.USES[m] for m in known.moods] + known.scenes + ([known.games] if known.games else [])
    )
    if uses:
        use = rng.choice(rng.choice(uses))
        more.append(
            rng.choice(
                (f"It could be played in {use}" if use.startswith(("a ", "an ", "the ")) else f"It could be used for {use}",
                 f"It would suit {use}", f"This music fits {use}", f"Good for {use}")
            )
        )  # fmt: skip
    rng.shuffle(more)
    parts += more[: rng.randint(1, max(1, min(4, len(more))))] if more else []
    return ". ".join(part[0].upper() + part[1:] for part in parts if part) + "."


def _use(known: Facts, rng: random.Random) -> str:
    """Starts from what the music is for, as a person asking for music does."""
    options = known.scenes + ([known.games] if known.games else [])
    use = rng.choice(rng.choice(options))
    start = rng.choice(
        (
            "music for",
            "soundtrack for",
            "background music for",
            "the soundtrack of",
            "theme for",
            "a theme for",
            "the music of",
        )
    )
    described = _some(known.descriptions, 4, rng)
    tail = rng.choice((": ", ", ", ", with ", ". ")) + _join(described) if described and rng.random() < 0.85 else ""
    return f"{start} {use}{tail}"


def _titled(known: Facts, rng: random.Random) -> str:
    described = [_bare(word) for word in _some(known.descriptions, 3, rng)]
    link = rng.choice((" - ", ": ", ", ", " (")) if described else ""
    return f"{known.title}{link}{', '.join(described)}{')' if link == ' (' else ''}"
