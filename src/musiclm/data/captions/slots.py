"""The slots of the grammar: each looks at the facts, notes its claims, and gives up (`Unsaid`) without them."""

import re
from collections.abc import Callable

from musiclm.data.captions import naming, words
from musiclm.data.captions.facts import Event, Player
from musiclm.data.captions.writer import ORDER, PLAIN_SHARE, Claim, Unsaid, Writer

BPM_UNITS = ("BPM", "bpm", "beats per minute", "beats a minute")
NEARLY = ("about", "around", "roughly", "some", "approximately")
ENSEMBLES = {2: "duo", 3: "trio", 4: "quartet", 5: "quintet"}
NOUNS = ("piece", "track", "song", "tune", "composition", "recording", "number", "arrangement")

# what slots say


def stylename(w: Writer) -> str:
    """The style, or a wider genre, at times with its era. Names of the style that the window belies are left out."""
    if not w.facts.style:
        raise Unsaid("style")
    w.claim("style", w.facts.style)
    instruments = {player.instrument for player in w.facts.players}
    names = naming.names_that_fit(w.facts.style, instruments, w.facts.metre)
    genres = naming.genres_that_fit(w.facts.genres, w.facts.metre)
    if genres and (not names or w.rng.random() < 0.25):
        name = w.rng.choice(genres)
    elif names:
        name = w.pick(naming.NAMES.get(w.facts.style, (w.facts.style,)), names, PLAIN_SHARE)
    else:
        raise Unsaid("style")
    if w.facts.era and w.rng.random() < 0.15 and not re.search(rf"\d0s|retro|{w.facts.era}", name):
        w.claim("era", w.facts.era)
        name = f"{w.facts.era} {name}"
    return name


def thing(w: Writer) -> str:
    """ "surf rock track", "waltz", "piece": a noun that counts, without its article."""
    noun = w.pick(NOUNS)
    if w.facts.style and w.rng.random() < 0.8 and not any(claim.kind == "style" for claim in w.claims):
        style = stylename(w)
        return style if naming.COUNTABLE.search(style) else f"{style.removesuffix(' music')} {noun}"
    return noun


def stylemass(w: Writer) -> str:
    """ "surf rock", "waltz music": a noun that does not count."""
    style = stylename(w)
    if re.search(r"(tune|song|score|soundscape|quartet|beat)$", style):
        raise Unsaid("style")  # "score music" is nothing
    if style.endswith("music") or (
        not naming.COUNTABLE.search(style) and not naming.ADJECTIVES.search(style) and w.rng.random() < 0.6
    ):
        return style
    return f"{style} music"


def mood(w: Writer) -> str:
    said = {claim.value for claim in w.claims if claim.kind == "mood"}
    moods = [mood for mood in w.facts.moods if mood not in said]
    if not moods:
        raise Unsaid("mood")
    mood = w.rng.choice(moods)
    w.claim("mood", mood, once=False)
    spoken = w.pick(words.MOODS.get(mood, (mood,)), None, PLAIN_SHARE)
    if any(spoken in words.MOODS.get(other, (other,)) for other in said):
        raise Unsaid("mood")  # two moods, one word
    return spoken


def feeling(w: Writer) -> str:
    """A mood as a noun: "nostalgia"."""
    said = {claim.value for claim in w.claims if claim.kind == "mood"}
    moods = [mood for mood in w.facts.moods if mood not in said and mood in words.FEELINGS]
    if not moods:
        raise Unsaid("feeling")
    mood = w.rng.choice(moods)
    w.claim("mood", mood, once=False)
    w.plural = False
    return w.pick(words.FEELINGS[mood])


def quality(w: Writer) -> str:
    """An adjective for the recording: "muffled"."""
    said = {claim.value for claim in w.claims if claim.kind == "sound"}
    names = [name for name in w.facts.sound if name in words.QUALITIES and name not in said]
    if not names:
        raise Unsaid("quality")
    name = w.rng.choice(names)
    w.claim("sound", name, once=False)
    return w.pick(words.QUALITIES[name])


def sound(w: Writer) -> str:
    """A sentence on the recording."""
    said = {claim.value for claim in w.claims if claim.kind == "sound"}
    names = [name for name in w.facts.sound if name not in said]
    if not names:
        raise Unsaid("sound")
    name = w.rng.choice(names)
    w.claim("sound", name, once=False)
    return w.expand(f"fact:{name}").rstrip(".")


def use(w: Writer) -> str:
    if not w.facts.uses:
        raise Unsaid("use")
    use = w.pick(w.facts.uses)
    w.claim("use", use)
    return use


def speed(w: Writer, table: dict[str, tuple[str, ...]]) -> str:
    if not w.facts.speed:
        raise Unsaid("speed")
    w.claim("speed", w.facts.speed)
    return w.pick(table[w.facts.speed], None, PLAIN_SHARE)


def bpm(w: Writer) -> str:
    if w.facts.tempo_bpm is None:
        raise Unsaid("bpm")
    bpm = w.facts.tempo_bpm
    unit = w.pick(BPM_UNITS)
    if w.rng.random() < 0.5:
        bpm = 5 * round(bpm / 5)
        unit = w.pick(NEARLY) + f" {bpm} {unit}"
    else:
        unit = f"{bpm} {unit}"
    w.claim("bpm", bpm)
    return unit


def key(w: Writer) -> str:
    if not w.facts.key:
        raise Unsaid("key")
    tonic, mode = w.facts.key.split()
    w.claim("key", w.facts.key)
    if w.rng.random() < 0.3:
        tonic = tonic[0] + {"b": " flat", "#": " sharp"}.get(tonic[1:], "")
    return f"{tonic} {mode if mode in ('major', 'minor') else mode.capitalize()}"


def mode(w: Writer) -> str:
    mode = w.facts.key.split()[-1] if w.facts.key else ""
    if mode not in ("major", "minor"):
        raise Unsaid("mode")
    w.claim("mode", mode)
    return mode


def metre(w: Writer) -> str:
    if w.facts.metre not in ("3/4", "6/8", "4/4", "5/4", "7/8", "12/8", "2/4"):
        raise Unsaid("metre")
    if w.facts.metre == "4/4" and w.rng.random() < 0.7:
        raise Unsaid("metre")  # the usual is seldom said
    w.claim("metre", w.facts.metre)
    return w.facts.metre


def beat(w: Writer) -> str:
    if not w.facts.beat:
        raise Unsaid("beat")
    name = w.rng.choice(w.facts.beat)
    return w.stated("beat", name, name)


def steady_beat(w: Writer) -> str:
    """A beat as a noun: "a driving beat"."""
    names = [name for name in w.facts.beat if name in words.BEATS]
    if not names:
        raise Unsaid("beat")
    w.claim("beat", names[0])
    w.plural = False
    return w.pick(words.BEATS[names[0]], None, PLAIN_SHARE)


def singer(w: Writer) -> str:
    """One of those who sing, not spoken of before."""
    said = {claim.value for claim in w.claims if claim.kind == "singing"}
    names = [name for name in w.facts.singing if name not in said]
    if not names:
        raise Unsaid("singing")
    name = w.rng.choice(names)
    w.claim("singing", name, once=False)
    return name


def singing(w: Writer) -> str:
    """A singer as a noun: "female vocals"."""
    text = w.pick(words.SINGERS[singer(w)], None, PLAIN_SHARE)
    w.plural = words.is_plural(text)
    return text


def kit(w: Writer) -> str:
    """Drums of the kit: "a kick drum, ticking hi-hats and a snare"."""
    if len(w.facts.drum_sounds) < 2:
        raise Unsaid("kit")
    count = w.rng.randint(2, min(4, len(w.facts.drum_sounds)))
    picked = w.rng.sample(w.facts.drum_sounds, count)
    for sound in picked:
        w.claim("drum sound", sound, once=False)
    return words.join([w.pick(words.DRUM_WORDS[sound]) for sound in picked])


def how(w: Writer) -> str:
    """A sentence on how one of the pitched players plays."""
    ways = [
        (player, kind, value)
        for player in w.facts.players
        if player.role not in ("drums", "percussion", "effects")
        for kind, value in (
            ("articulation", player.articulation),
            ("register", player.register),
            ("pace", player.pace),
        )
        if value
    ]
    if not ways:
        raise Unsaid("how")
    player, kind, value = w.rng.choice(ways)
    w.chosen["how"] = player
    return w.stated(kind, f"{player.instrument}: {value}", "slow notes" if value == "slow" else value)


def how_player(w: Writer) -> str:
    return "the " + w.again(w.chosen["how"])


def lead_how(w: Writer) -> str:
    """ ", high up", ", in short notes" or nothing, of the melody's player."""
    lead = w.chosen.get("melody")
    if lead is None or w.rng.random() < 0.6:
        return ""
    ways = {
        "high": ", high up",
        "low": ", in a low register",
        "staccato": ", in short, detached notes",
        "sustained": ", in long notes",
        "rapid": ", in rapid notes",
    }
    found = [
        (kind, value)
        for kind, value in (("register", lead.register), ("articulation", lead.articulation), ("pace", lead.pace))
        if value in ways
    ]
    if not found:
        return ""
    kind, value = w.rng.choice(found)
    w.claim(kind, f"{lead.instrument}: {value}")
    return ways[value]


def fact_pace(w: Writer) -> str:
    lead = w.one("melody")
    if lead.pace != "rapid":
        raise Unsaid("pace")
    w.claim("pace", f"{lead.instrument}: rapid")
    return "made of rapid notes"


def fact_register(w: Writer) -> str:
    lead = w.one("melody")
    if not lead.register:
        raise Unsaid("register")
    w.claim("register", f"{lead.instrument}: {lead.register}")
    return "in a high register" if lead.register == "high" else "in a low register"


def repeats(w: Writer) -> str:
    found = [player for player in w.facts.players if player.repeats and player.role in ("riff", "melody")]
    if not found:
        raise Unsaid("repeats")
    return w.stated("repeats", found[0].instrument, "repeats")


def trait(w: Writer, *roles: str) -> str:
    """A sentence on how a part goes, of players of some roles; without roles, of anybody or of all together."""
    parts = {p.instrument: p.role for p in w.facts.players}
    found = []
    for fact in w.facts.traits:
        name, _, instrument = fact.partition(": ")
        if Claim("trait", fact) not in w.claims and (not roles or parts.get(instrument, "") in roles):
            found.append((fact, name, instrument))
    if not found:
        raise Unsaid("trait")
    fact, name, instrument = w.rng.choice(found)
    w.claim("trait", fact, once=False)
    if instrument:
        w.chosen["how"] = next(p for p in w.facts.players if p.instrument == instrument)
    return w.expand(f"fact:{name}").rstrip(".")


def ensemble(w: Writer) -> str:
    """A duo, a trio: where nobody else plays."""
    count = len({player.instrument for player in w.facts.players})
    if not w.facts.complete or count not in ENSEMBLES:
        raise Unsaid("ensemble")
    w.claim("complete", count)
    return w.expand(f"fact:{ENSEMBLES[count]}").rstrip(".")


def solo(w: Writer, noun: Callable[[str], str] = str) -> str:
    if not w.facts.complete or len(w.facts.players) != 1 or w.facts.players[0].role in ("drums", "percussion"):
        raise Unsaid("solo")
    player = w.facts.players[0]
    w.claim("solo", player.instrument)
    return w.name(player, noun)


# what happens


def event_of(w: Writer, *kinds: str) -> Event:
    found = [event for event in w.facts.events if event.kind in kinds]
    if not found:
        raise Unsaid("event")
    return w.rng.choice(found)


def enters(w: Writer) -> str:
    """Who comes in later; `first` must not name him."""
    event = event_of(w, "enters")
    player = next(p for p in w.facts.players if p.instrument == event.instrument)
    w.chosen["enters"] = player
    text = w.name(player)
    w.claim("enters", event.instrument)
    w.chosen["moment"] = player
    return text


def first(w: Writer) -> str:
    """Who sounds within half a second of the window's beginning."""
    if not any(event.kind == "enters" for event in w.facts.events):
        raise Unsaid("first")
    names = {player.instrument for player in w.facts.players if player.enters_s > 0.5}
    there = [p for p in w.facts.players if p.enters_s <= 0.5 and p.instrument not in names]
    there = list({p.instrument: p for p in there}.values())
    if not 1 <= len(there) <= 3:
        raise Unsaid("first")
    picked = w.rng.sample(there, len(there))  # all of them: "it starts with" leaves nobody out
    for player in picked:
        w.claim("first", player.instrument, once=False)
    text = words.join([w.name(player) for player in picked])
    w.plural = len(picked) > 1 or w.plural
    return text


def leaves(w: Writer) -> str:
    event = event_of(w, "leaves")
    w.claim("leaves", event.instrument)
    player = next(p for p in w.facts.players if p.instrument == event.instrument)
    return "the " + w.again(player)


def moment(w: Writer, at_s: float) -> str:
    share = at_s / w.facts.seconds
    if share < 0.25:
        return w.expand("when early")
    if share > 0.72:
        return w.expand("when late")
    if 0.38 < share < 0.62:
        return w.expand("when middle")
    return ""


def when(w: Writer, kind: str) -> str:
    instrument = next(c.value for c in reversed(w.claims) if c.kind == kind)
    event = next(e for e in w.facts.events if (e.kind, e.instrument) == (kind, instrument))
    text = moment(w, event.at_s)
    if text:
        w.claim("when", f"{kind} {instrument}: {event.at_s}", once=False)
    return text


def fill(w: Writer) -> str:
    """A sentence on a fill, a roll or a crash; its place is told where there is one alone."""
    event = event_of(w, "fill", "roll", "crash")
    if event.kind == "crash" and w.rng.random() < 0.5:
        raise Unsaid("crash")  # many windows have one; few listeners would say so
    same = [other for other in w.facts.events if other.kind == event.kind]
    w.claim(event.kind, len(same))
    text = w.expand(f"fact:{event.kind}")
    where = moment(w, event.at_s) if len(same) == 1 else ""
    return re.sub(r" ?WHEN", f" {where}" if where else "", text).rstrip(".")


BACKING = ("chords", "arpeggio", "pad")


def _no_drums(w: Writer) -> str:
    if w.facts.drums is not False:
        raise Unsaid("drums")
    w.claim("drums", "no")
    return ""


def _slow(w: Writer) -> str:
    if not w.facts.speed.endswith("slow"):
        raise Unsaid("slow")
    w.claim("speed", w.facts.speed)
    return ""


def _instrumental(w: Writer) -> str:
    if w.facts.voices is not False:
        raise Unsaid("voices")
    w.claim("instrumental", "yes")
    return "instrumental"


def _sound(w: Writer) -> str:
    if w.facts.electric is None:
        raise Unsaid("electric")
    w.claim("electric", "yes" if w.facts.electric else "no")
    return w.expand("fact:electric" if w.facts.electric else "fact:acoustic").rstrip(".")


def _sentence(rule: str, check: Callable[[Writer], str]) -> Callable[[Writer], str]:
    def say(w: Writer) -> str:
        check(w)
        return w.expand(rule).rstrip(".")

    return say


def _again(w: Writer, role: str) -> str:
    """A player who repeats his bar."""
    player = w.one(role, test=lambda p: p.repeats)
    if not player.repeats:
        raise Unsaid("repeats")
    w.claim("repeats", player.instrument)
    return w.as_role(role)


def _parts(w: Writer) -> str:
    w.plural = False
    return w.several(ORDER, 2, 5, w.part)


def _everyone(w: Writer, say: Callable[[Player], str]) -> str:
    """All who play, where nobody else plays and they are few."""
    count = len({player.instrument for player in w.facts.players})
    if not w.facts.complete or not 2 <= count <= 6:
        raise Unsaid("everyone")
    w.claim("complete", count)
    return w.several(ORDER, count, count, say)


def _player(w: Writer, noun: Callable[[str], str]) -> str:
    assert w.player is not None
    return w.name(w.player, noun)


def _swing(w: Writer) -> str:
    if w.facts.swing is None or (not w.facts.swing and w.rng.random() < 0.8):
        raise Unsaid("swing")
    return w.stated("swing", "yes" if w.facts.swing else "no", "swung" if w.facts.swing else "straight")


SLOTS: dict[str, Callable[[Writer], str]] = {
    "thing": thing,
    "stylemass": stylemass,
    "mood": mood,
    "use": use,
    "feeling": feeling,
    "quality": quality,
    "sound_sentence": sound,
    "speed": lambda w: speed(w, words.SPEEDS),
    "speed_noun": lambda w: speed(w, words.SPEED_NOUNS),
    "bpm": bpm,
    "key": key,
    "mode": mode,
    "metre": metre,
    "metre_sentence": lambda w: w.stated("metre", w.facts.metre, w.facts.metre),
    "swing_sentence": _swing,
    "tempo_change": lambda w: w.stated("tempo change", w.facts.tempo_change, w.facts.tempo_change),
    "density_sentence": lambda w: w.stated("density", w.facts.density, w.facts.density),
    "dynamics_sentence": lambda w: w.stated("dynamics", w.facts.dynamics, w.facts.dynamics),
    "stop_sentence": lambda w: w.stated("stop", event_of(w, "stop").kind, "stop"),
    "section_sentence": lambda w: (
        w.stated("ends", "yes", "ends") if w.facts.ends else w.stated("section", w.facts.section, w.facts.section)
    ),
    "repeat_sentence": repeats,
    "how_sentence": how,
    "how": how_player,
    "alone_sentence": lambda w: w.expand("alone").rstrip("."),
    "beat_sentence": beat,
    "steady_beat": steady_beat,
    "singing": singing,
    "singing_sentence": lambda w: w.expand(f"fact:{singer(w)}").rstrip("."),
    "no_drums": _sentence("fact:no drums", _no_drums),
    "check_no_drums": _no_drums,
    "check_slow": _slow,
    "instrumental": _instrumental,
    "check_instrumental": lambda w: _instrumental(w)[:0],
    "instrumental_sentence": _sentence("fact:instrumental", _instrumental),
    "acoustic_sentence": _sound,
    "names": lambda w: w.several(ORDER, 1, 4, w.name),
    "everyone": lambda w: _everyone(w, w.name),
    "all_parts": lambda w: _everyone(w, w.part),
    "band": lambda w: w.several(ORDER, 2, 4, w.name),
    "parts": _parts,
    "part": lambda w: w.several(ORDER, 1, 1, w.part),
    "x": lambda w: _player(w, words.as_modifier),
    "ax": lambda w: _player(w, str),
    "lead": lambda w: w.as_role("melody"),
    "lead_mod": lambda w: w.as_role("melody", noun=words.as_modifier),
    "lead_how": lead_how,
    "fact_pace": fact_pace,
    "fact_register": fact_register,
    "counter": lambda w: w.as_role("countermelody"),
    "riff": lambda w: w.as_role("riff"),
    "riff_mod": lambda w: w.as_role("riff", noun=words.as_modifier),
    "riff_again": lambda w: _again(w, "riff"),
    "backing": lambda w: w.several(BACKING, 1, 3, lambda player: w.part(player, acting=False)),
    "chords": lambda w: w.as_role("chords"),
    "arpeggio": lambda w: w.as_role("arpeggio"),
    "arpeggio_mod": lambda w: w.as_role("arpeggio", noun=words.as_modifier),
    "pad": lambda w: w.as_role("pad"),
    "bass": lambda w: w.as_role("bass"),
    "bass_mod": lambda w: w.as_role("bass", noun=words.as_modifier),
    "bass_again": lambda w: _again(w, "bass"),
    "drums": lambda w: w.as_role("drums"),
    "percussion": lambda w: w.several(("percussion",), 1, 3, w.name),
    "kit": kit,
    "trait_sentence": trait,
    "melody_trait": lambda w: trait(w, "melody"),
    "riff_trait": lambda w: trait(w, "riff"),
    "bass_trait": lambda w: trait(w, "bass"),
    "chords_trait": lambda w: trait(w, "chords"),
    "ensemble_sentence": ensemble,
    "everyone_named": lambda w: w.several(ORDER, len({p.instrument for p in w.facts.players}), 6, w.name),
    "solo": solo,
    "solo_mod": lambda w: solo(w, words.as_modifier),
    "first": first,
    "enters": enters,
    "leaves": leaves,
    "when": lambda w: when(w, "enters"),
    "when_left": lambda w: when(w, "leaves"),
    "when_fill": lambda w: "WHEN",
    "fill": fill,
}
