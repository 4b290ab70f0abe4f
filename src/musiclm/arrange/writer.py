"""Expands the grammar by chance, and notes what each text claims.

Slots read the facts; a slot whose fact is missing, or was said already, raises `Unsaid`, and the next way of the rule is tried. Whatever a
slot says it also notes as a `Claim`, so that tests can hold each text against the notes. A share of ways and words is held out: with
`held_out` only those are drawn, without it never.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from musiclm.arrange import naming, words
from musiclm.arrange.facts import Event, Facts, Player
from musiclm.arrange.grammar import RULES

BPM_UNITS = ("BPM", "bpm", "beats per minute", "beats a minute")
NEARLY = ("about", "around", "roughly", "some", "approximately")
NOUNS = ("piece", "track", "song", "tune", "composition", "recording", "number", "arrangement")


class Unsaid(Exception):
    """Nothing known fills this slot."""


@dataclass(frozen=True)
class Claim:
    """One thing that a text states; what `kind` and `value` may be is what the slots of `Writer` note."""

    kind: str
    value: str


@dataclass
class Writer:
    """Writes one caption."""

    facts: Facts
    rng: random.Random
    held_out: bool = False
    claims: list[Claim] = field(default_factory=list)
    wordings: set[str] = field(default_factory=set)
    chosen: dict[str, Player] = field(default_factory=dict)  # a melody player stays the same within a caption
    player: Player | None = None  # of the part phrase that is being written
    plural: bool = False  # number of the last noun

    def pick(self, options: Sequence[str], among: Sequence[str] | None = None) -> str:
        """One of the ways to say a thing; of those that fit here, `among` them. Raises: Unsaid if none of these may be drawn."""
        ways = words.allowed(options, self.held_out)
        if among is not None:
            ways = [way for way in ways if way in among]
        if not ways:
            raise Unsaid("wording")
        wording = self.rng.choice(ways)
        self.wordings.add(wording)
        return wording

    def expand(self, rule: str) -> str:
        """A way of the rule that the facts can fill; music without a style has rules of its own. Raises: Unsaid if there is none."""
        if not self.facts.style and f"{rule} of no style" in RULES:
            rule = f"{rule} of no style"
        options = words.allowed(RULES[rule], self.held_out)
        for option in self.rng.sample(options, len(options)):
            before = list(self.claims), set(self.wordings), dict(self.chosen), self.player, self.plural
            try:
                self.wordings.add(option)
                return re.sub(r"\{([^}]+)\}", lambda match: self.slot(match[1]), option)
            except Unsaid:
                self.claims, self.wordings, self.chosen, self.player, self.plural = before
        raise Unsaid(rule)

    def slot(self, name: str) -> str:
        if name.startswith("v:"):
            return name[2:].split("|")[self.plural]
        if name.startswith("there:"):
            noun = self.slot(name[6:])
            return f"there {'are' if words.is_plural(noun.split(',')[0].split(' and ')[0]) else 'is'} {noun}"
        if name.startswith("fact_"):
            return getattr(self, name)()
        if name in SLOTS:
            return SLOTS[name](self)
        return self.expand(name)

    def claim(self, kind: str, value: str | int, *, once: bool = True) -> None:
        """Notes what is being said. Raises: Unsaid where a statement of its kind was made before."""
        if any(c.kind == kind and (once or c.value == str(value)) for c in self.claims):
            raise Unsaid(kind)
        self.claims.append(Claim(kind, str(value)))

    # players

    def name(self, player: Player, noun: Callable[[str], str] = str) -> str:
        """The player's instrument, now and then by a wider name; each instrument is named once in a caption."""
        names = words.INSTRUMENT_NAMES.get(player.instrument, (words.with_article(player.instrument),))
        fitting = names
        if noun is words.as_modifier:
            fitting = tuple(name for name in names if not re.search(" (with|played|playing|in) ", name))
        kinds = [kind for kind, those in words.KINDS.items() if player.instrument in those]
        kinds = [kind for kind in kinds if words.is_held_out(kind) == self.held_out]
        if kinds and self.rng.random() < 0.12:
            wording = self.pick(kinds)
        else:
            wording = self.pick(names, fitting)
        plain = words.bare(wording) in player.instrument or wording in ("drums", "strings", "a bass guitar")
        if plain and self.rng.random() < 0.35:
            sound = self.pick(words.SOUNDS.get(player.instrument, words.SOUNDS[player.family]))
            if sound not in wording:
                with_sound = f"{sound} {words.bare(wording)}"
                wording = words.with_article(with_sound) if wording.startswith(("a ", "an ")) else with_sound
        if wording in words.KINDS:
            self.claim(f"kind:{player.instrument}", wording)
        self.claim("plays", player.instrument, once=False)
        self.plural = words.is_plural(wording)
        return noun(wording)

    def one(self, *roles: str, test: Callable[[Player], bool] = bool) -> Player:
        """A player of these roles, always the same one within a caption."""
        key = " ".join(roles)
        if key not in self.chosen:
            named = {claim.value for claim in self.claims if claim.kind == "plays"}
            found = [p for p in self.facts.players if p.role in roles and test(p) and p.instrument not in named]
            if not found:
                raise Unsaid(key)
            self.chosen[key] = self.rng.choice(found)
        return self.chosen[key]

    def as_role(self, *roles: str, noun: Callable[[str], str] = str, test: Callable[[Player], bool] = bool) -> str:
        player = self.one(*roles, test=test)
        text = self.name(player, noun)
        self.claim("role", f"{player.instrument}: {player.role}", once=False)
        return text

    def part(self, player: Player, acting: bool = True) -> str:
        """The player as a phrase that says what he does: "arpeggios on a harp", or, `acting`, "a harp playing arpeggios"."""
        self.player = player
        doing = acting and f"{player.role}_act" in RULES and self.rng.random() < 0.4
        text = self.expand(f"{player.role}_act" if doing else f"{player.role}_part")
        if player.role not in ("drums", "percussion", "unknown"):
            self.claim("role", f"{player.instrument}: {player.role}", once=False)
        return text

    def several(self, roles: Sequence[str], least: int, most: int, say: Callable[[Player], str]) -> str:
        """Some players of these roles, melody first as a rule."""
        named = {claim.value for claim in self.claims if claim.kind == "plays"}
        found = {p.instrument: p for p in reversed(self.facts.players) if p.role in roles and p.instrument not in named}
        if len(found) < least:
            raise Unsaid("players")
        count = self.rng.randint(least, min(most, len(found)))
        picked = self.rng.sample(list(found.values()), count)
        if self.rng.random() < 0.7:
            picked.sort(key=lambda player: ORDER.index(player.role))
        spoken = [say(player) for player in picked]
        self.plural = len(spoken) > 1 or words.is_plural(spoken[0])
        return words.join(spoken)

    # what slots say

    def stylename(self) -> str:
        """The style, or a wider genre, at times with its era. Names of the style that the window belies are left out."""
        if not self.facts.style:
            raise Unsaid("style")
        self.claim("style", self.facts.style)
        heard = {player.instrument for player in self.facts.players}
        names = naming.names_that_fit(self.facts.style, heard, self.facts.metre)
        genres = naming.genres_that_fit(self.facts.genres, self.facts.metre)
        if genres and (not names or self.rng.random() < 0.25):
            name = self.rng.choice(genres)
        elif names:
            name = self.pick(naming.STYLE_NAMES.get(self.facts.style, (self.facts.style,)), names)
        else:
            raise Unsaid("style")
        if self.facts.era and self.rng.random() < 0.15 and not re.search(rf"\d0s|retro|{self.facts.era}", name):
            self.claim("era", self.facts.era)
            name = f"{self.facts.era} {name}"
        return name

    def thing(self) -> str:
        """ "surf rock track", "waltz", "piece": a noun that counts, without its article."""
        noun = self.pick(NOUNS)
        if self.facts.style and self.rng.random() < 0.8 and not any(claim.kind == "style" for claim in self.claims):
            style = self.stylename()
            return style if naming.COUNTABLE.search(style) else f"{style.removesuffix(' music')} {noun}"
        return noun

    def stylemass(self) -> str:
        """ "surf rock", "waltz music": a noun that does not count."""
        style = self.stylename()
        if re.search(r"(tune|song|score|soundscape|quartet|beat)$", style):
            raise Unsaid("style")  # "score music" is nothing
        if style.endswith("music") or (
            not naming.COUNTABLE.search(style) and not naming.ADJECTIVES.search(style) and self.rng.random() < 0.6
        ):
            return style
        return f"{style} music"

    def mood(self) -> str:
        said = {claim.value for claim in self.claims if claim.kind == "mood"}
        moods = [mood for mood in self.facts.moods if mood not in said]
        if not moods:
            raise Unsaid("mood")
        mood = self.rng.choice(moods)
        self.claim("mood", mood, once=False)
        spoken = self.pick(words.MOODS.get(mood, (mood,)))
        if any(spoken in words.MOODS.get(other, (other,)) for other in said):
            raise Unsaid("mood")  # two moods, one word
        return spoken

    def use(self) -> str:
        if not self.facts.uses:
            raise Unsaid("use")
        use = self.rng.choice(self.facts.uses)
        self.claim("use", use)
        return use

    def speed(self, table: dict[str, tuple[str, ...]]) -> str:
        if not self.facts.speed:
            raise Unsaid("speed")
        self.claim("speed", self.facts.speed)
        return self.pick(table[self.facts.speed])

    def bpm(self) -> str:
        if self.facts.tempo_bpm is None:
            raise Unsaid("bpm")
        bpm = self.facts.tempo_bpm
        unit = self.pick(BPM_UNITS)
        if self.rng.random() < 0.5:
            bpm = 5 * round(bpm / 5)
            unit = self.pick(NEARLY) + f" {bpm} {unit}"
        else:
            unit = f"{bpm} {unit}"
        self.claim("bpm", bpm)
        return unit

    def key(self) -> str:
        if not self.facts.key:
            raise Unsaid("key")
        tonic, mode = self.facts.key.split()
        self.claim("key", self.facts.key)
        if self.rng.random() < 0.3:
            tonic = tonic[0] + {"b": " flat", "#": " sharp"}.get(tonic[1:], "")
        return f"{tonic} {mode if mode in ('major', 'minor') else mode.capitalize()}"

    def mode(self) -> str:
        mode = self.facts.key.split()[-1] if self.facts.key else ""
        if mode not in ("major", "minor"):
            raise Unsaid("mode")
        self.claim("mode", mode)
        return mode

    def metre(self) -> str:
        if self.facts.metre not in ("3/4", "6/8", "4/4", "5/4", "7/8", "12/8", "2/4"):
            raise Unsaid("metre")
        if self.facts.metre == "4/4" and self.rng.random() < 0.7:
            raise Unsaid("metre")  # the usual is seldom said
        self.claim("metre", self.facts.metre)
        return self.facts.metre

    def stated(self, kind: str, value: str, rule: str) -> str:
        """A rule below `fact:` for a value that holds. Raises: Unsaid without one."""
        if not value or f"fact:{rule}" not in RULES:
            raise Unsaid(kind)
        self.claim(kind, value)
        return self.expand(f"fact:{rule}").rstrip(".")

    def beat(self) -> str:
        if not self.facts.beat:
            raise Unsaid("beat")
        name = self.rng.choice(self.facts.beat)
        return self.stated("beat", name, name)

    def kit(self) -> str:
        """Drums of the kit: "a kick drum, ticking hi-hats and a snare"."""
        if len(self.facts.drum_sounds) < 2:
            raise Unsaid("kit")
        count = self.rng.randint(2, min(4, len(self.facts.drum_sounds)))
        picked = self.rng.sample(self.facts.drum_sounds, count)
        for sound in picked:
            self.claim("drum sound", sound, once=False)
        return words.join([self.pick(words.DRUM_WORDS[sound]) for sound in picked])

    def how(self) -> str:
        """A sentence on how one of the pitched players plays."""
        ways = [
            (player, kind, value)
            for player in self.facts.players
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
        player, kind, value = self.rng.choice(ways)
        self.chosen["how"] = player
        return self.stated(kind, f"{player.instrument}: {value}", "slow notes" if value == "slow" else value)

    def how_player(self) -> str:
        return "the " + self.again(self.chosen["how"])

    def again(self, player: Player) -> str:
        """An instrument that may have been named before."""
        wording = words.INSTRUMENT_NAMES.get(player.instrument, (player.instrument,))[0]
        if Claim("plays", player.instrument) not in self.claims:
            self.claim("plays", player.instrument, once=False)
        self.plural = words.is_plural(wording)
        return words.bare(wording)

    def lead_how(self) -> str:
        """ ", high up", ", in short notes" or nothing, of the melody's player."""
        lead = self.chosen.get("melody")
        if lead is None or self.rng.random() < 0.6:
            return ""
        ways = {"high": ", high up", "low": ", in a low register", "staccato": ", in short, detached notes", "sustained": ", in long notes", "rapid": ", in rapid notes"}  # fmt: skip
        found = [(kind, value) for kind, value in (("register", lead.register), ("articulation", lead.articulation), ("pace", lead.pace)) if value in ways]  # fmt: skip
        if not found:
            return ""
        kind, value = self.rng.choice(found)
        self.claim(kind, f"{lead.instrument}: {value}")
        return ways[value]

    def fact_pace(self) -> str:
        lead = self.one("melody")
        if lead.pace != "rapid":
            raise Unsaid("pace")
        self.claim("pace", f"{lead.instrument}: rapid")
        return "made of rapid notes"

    def fact_register(self) -> str:
        lead = self.one("melody")
        if not lead.register:
            raise Unsaid("register")
        self.claim("register", f"{lead.instrument}: {lead.register}")
        return "in a high register" if lead.register == "high" else "in a low register"

    def repeats(self) -> str:
        found = [player for player in self.facts.players if player.repeats and player.role in ("riff", "melody")]
        if not found:
            raise Unsaid("repeats")
        return self.stated("repeats", found[0].instrument, "repeats")

    def solo(self, noun: Callable[[str], str] = str) -> str:
        if (
            not self.facts.complete
            or len(self.facts.players) != 1
            or self.facts.players[0].role in ("drums", "percussion")
        ):
            raise Unsaid("solo")
        player = self.facts.players[0]
        self.claim("solo", player.instrument)
        return self.name(player, noun)

    # what happens

    def event(self, *kinds: str) -> Event:
        found = [event for event in self.facts.events if event.kind in kinds]
        if not found:
            raise Unsaid("event")
        return self.rng.choice(found)

    def enters(self) -> str:
        """Who comes in later; `first` must not name him."""
        event = self.event("enters")
        player = next(p for p in self.facts.players if p.instrument == event.instrument)
        self.chosen["enters"] = player
        text = self.name(player)
        self.claim("enters", event.instrument)
        self.chosen["moment"] = player
        return text

    def first(self) -> str:
        """Who sounds within half a second of the window's beginning."""
        if not any(event.kind == "enters" for event in self.facts.events):
            raise Unsaid("first")
        names = {player.instrument for player in self.facts.players if player.enters_s > 0.5}
        there = [p for p in self.facts.players if p.enters_s <= 0.5 and p.instrument not in names]
        there = list({p.instrument: p for p in there}.values())
        if not 1 <= len(there) <= 3:
            raise Unsaid("first")
        picked = self.rng.sample(there, len(there))  # all of them: "it starts with" leaves nobody out
        for player in picked:
            self.claim("first", player.instrument, once=False)
        text = words.join([self.name(player) for player in picked])
        self.plural = len(picked) > 1 or self.plural
        return text

    def leaves(self) -> str:
        event = self.event("leaves")
        self.claim("leaves", event.instrument)
        player = next(p for p in self.facts.players if p.instrument == event.instrument)
        return "the " + self.again(player)

    def moment(self, at_s: float) -> str:
        share = at_s / self.facts.seconds
        if share < 0.25:
            return self.expand("when early")
        if share > 0.72:
            return self.expand("when late")
        if 0.38 < share < 0.62:
            return self.expand("when middle")
        return ""

    def when(self, kind: str) -> str:
        instrument = next(c.value for c in reversed(self.claims) if c.kind == kind)
        event = next(e for e in self.facts.events if (e.kind, e.instrument) == (kind, instrument))
        text = self.moment(event.at_s)
        if text:
            self.claim("when", f"{kind} {instrument}: {event.at_s}", once=False)
        return text

    def fill(self) -> str:
        """A sentence on a fill, a roll or a crash; its place is told where there is one alone."""
        event = self.event("fill", "roll", "crash")
        if event.kind == "crash" and self.rng.random() < 0.5:
            raise Unsaid("crash")  # many windows have one; few listeners would say so
        same = [other for other in self.facts.events if other.kind == event.kind]
        self.claim(event.kind, len(same))
        text = self.expand(f"fact:{event.kind}")
        where = self.moment(event.at_s) if len(same) == 1 else ""
        return re.sub(r" ?WHEN", f" {where}" if where else "", text).rstrip(".")


ORDER = (
    "melody", "riff", "countermelody", "arpeggio", "chords", "pad", "unknown", "bass", "drums", "percussion", "effects"
)  # fmt: skip
BACKING = ("chords", "arpeggio", "pad")


def _no_drums(writer: Writer) -> str:
    if writer.facts.drums is not False:
        raise Unsaid("drums")
    writer.claim("drums", "no")
    return ""


def _slow(writer: Writer) -> str:
    if not writer.facts.speed.endswith("slow"):
        raise Unsaid("slow")
    writer.claim("speed", writer.facts.speed)
    return ""


def _instrumental(writer: Writer) -> str:
    if writer.facts.voices:
        raise Unsaid("voices")
    writer.claim("instrumental", "yes")
    return "instrumental"


def _sound(writer: Writer) -> str:
    if writer.facts.electric is None:
        raise Unsaid("electric")
    writer.claim("electric", "yes" if writer.facts.electric else "no")
    return writer.expand("fact:electric" if writer.facts.electric else "fact:acoustic").rstrip(".")


def _sentence(rule: str, check: Callable[[Writer], str]) -> Callable[[Writer], str]:
    def say(writer: Writer) -> str:
        check(writer)
        return writer.expand(rule).rstrip(".")

    return say


def _again(writer: Writer, role: str) -> str:
    """A player who repeats his bar."""
    player = writer.one(role, test=lambda p: p.repeats)
    if not player.repeats:
        raise Unsaid("repeats")
    writer.claim("repeats", player.instrument)
    return writer.as_role(role)


def _parts(writer: Writer) -> str:
    writer.plural = False
    return writer.several(ORDER, 2, 5, writer.part)


def _everyone(writer: Writer, say: Callable[[Player], str]) -> str:
    """All who play, where nobody else is heard and they are few."""
    count = len({player.instrument for player in writer.facts.players})
    if not writer.facts.complete or not 2 <= count <= 6:
        raise Unsaid("everyone")
    writer.claim("complete", count)
    return writer.several(ORDER, count, count, say)


def _player(writer: Writer, noun: Callable[[str], str]) -> str:
    assert writer.player is not None
    return writer.name(writer.player, noun)


def _swing(writer: Writer) -> str:
    if writer.facts.swing is None or (not writer.facts.swing and writer.rng.random() < 0.8):
        raise Unsaid("swing")
    return writer.stated("swing", "yes" if writer.facts.swing else "no", "swung" if writer.facts.swing else "straight")


SLOTS: dict[str, Callable[[Writer], str]] = {
    "thing": Writer.thing,
    "stylemass": Writer.stylemass,
    "mood": Writer.mood,
    "use": Writer.use,
    "speed": lambda w: w.speed(words.SPEEDS),
    "speed_noun": lambda w: w.speed(words.SPEED_NOUNS),
    "bpm": Writer.bpm,
    "key": Writer.key,
    "mode": Writer.mode,
    "metre": Writer.metre,
    "metre_sentence": lambda w: w.stated("metre", w.facts.metre, w.facts.metre),
    "swing_sentence": _swing,
    "tempo_change": lambda w: w.stated("tempo change", w.facts.tempo_change, w.facts.tempo_change),
    "density_sentence": lambda w: w.stated("density", w.facts.density, w.facts.density),
    "dynamics_sentence": lambda w: w.stated("dynamics", w.facts.dynamics, w.facts.dynamics),
    "stop_sentence": lambda w: w.stated("stop", w.event("stop").kind, "stop"),
    "section_sentence": lambda w: (
        w.stated("ends", "yes", "ends") if w.facts.ends else w.stated("section", w.facts.section, w.facts.section)
    ),
    "repeat_sentence": Writer.repeats,
    "how_sentence": Writer.how,
    "how": Writer.how_player,
    "alone_sentence": lambda w: w.expand("alone").rstrip("."),
    "beat_sentence": Writer.beat,
    "no_drums": _sentence("fact:no drums", _no_drums),
    "check_no_drums": _no_drums,
    "check_slow": _slow,
    "instrumental": _instrumental,
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
    "lead_how": Writer.lead_how,
    "counter": lambda w: w.as_role("countermelody"),
    "riff": lambda w: w.as_role("riff"),
    "riff_mod": lambda w: w.as_role("riff", noun=words.as_modifier),
    "riff_again": lambda w: _again(w, "riff"),
    "backing": lambda w: w.several(BACKING, 1, 3, lambda player: w.part(player, acting=False)),
    "chords": lambda w: w.as_role("chords"),
    "arpeggio": lambda w: w.as_role("arpeggio"),
    "pad": lambda w: w.as_role("pad"),
    "bass": lambda w: w.as_role("bass"),
    "bass_mod": lambda w: w.as_role("bass", noun=words.as_modifier),
    "bass_again": lambda w: _again(w, "bass"),
    "drums": lambda w: w.as_role("drums"),
    "percussion": lambda w: w.several(("percussion",), 1, 3, w.name),
    "kit": Writer.kit,
    "solo": Writer.solo,
    "solo_mod": lambda w: w.solo(words.as_modifier),
    "first": Writer.first,
    "enters": Writer.enters,
    "leaves": Writer.leaves,
    "when": lambda w: w.when("enters"),
    "when_left": lambda w: w.when("leaves"),
    "when_fill": lambda w: "WHEN",
    "fill": Writer.fill,
}
