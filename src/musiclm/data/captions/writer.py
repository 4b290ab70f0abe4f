"""Expands the grammar at random, and notes what each text claims.

Slots read the facts; a slot whose fact is missing, or was said already, raises `Unsaid`, and the next way of the rule
is tried. Whatever a slot says it also notes as a `Claim`, so that tests can hold each text against the notes. A share
of ways and words is held out: with `held_out` only those are drawn, without it never. The plain name of a thing is not
held out, and is said more often than others.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from musiclm.data.captions import words
from musiclm.data.captions.facts import Facts, Player
from musiclm.data.captions.wording import RULES

ORDER = (
    "melody", "riff", "countermelody", "arpeggio", "chords", "pad", "unknown", "bass", "drums", "percussion", "effects"
)  # fmt: skip
# of moods, styles, instruments and speeds are called what people mostly call them, the rest by all their names
PLAIN_SHARE = 0.5


class Unsaid(Exception):
    """Nothing known fills this slot."""


@cache
def _parts(way: str) -> list[str]:
    """Text and names of slots in turn, text first."""
    return re.split(r"\{([^}]+)\}", way)


@dataclass(frozen=True)
class Claim:
    """One thing that a text states; what `kind` and `value` may be is what `slots` note."""

    kind: str
    value: str


@dataclass
class Writer:
    """Writes one caption."""

    facts: Facts
    rng: random.Random
    slots: Mapping[str, Callable[["Writer"], str]]  # `slots.SLOTS`
    held_out: bool = False
    claims: list[Claim] = field(default_factory=list)
    wordings: set[str] = field(default_factory=set)
    chosen: dict[str, Player] = field(default_factory=dict)  # a melody player stays the same within a caption
    player: Player | None = None  # of the part phrase that is being written
    plural: bool = False  # number of the last noun

    def pick(self, options: Sequence[str], among: Sequence[str] | None = None, plain_share: float = 0.0) -> str:
        """One of the ways to say a thing; of those that fit here, `among` them; `plain_share` of the time the first, if
        that may be drawn.

        Raises: Unsaid if none of these may be drawn.
        """
        ways = words.allowed(options, self.held_out)
        if among is not None:
            ways = [way for way in ways if way in among]
        if not ways:
            raise Unsaid("wording")
        plain = plain_share > 0 and options[0] in ways and self.rng.random() < plain_share
        wording = options[0] if plain else self.rng.choice(ways)
        self.wordings.add(wording)
        return wording

    def expand(self, rule: str) -> str:
        """A way of the rule that the facts can fill. Raises: Unsaid if there is none.

        Music without style and moods has rules of its own, music without roles further ways.
        """
        plain = rule
        if not (self.facts.style or self.facts.moods) and f"{rule} of no style" in RULES:
            rule = f"{rule} of no style"
        options = words.allowed(RULES[rule], self.held_out)
        if not self.facts.has_roles:
            options += words.allowed(RULES.get(f"{plain} without roles", ()), self.held_out)
        for option in self.rng.sample(options, len(options)):
            before = list(self.claims), set(self.wordings), dict(self.chosen), self.player, self.plural
            try:
                self.wordings.add(option)
                return "".join(self.slot(part) if k % 2 else part for k, part in enumerate(_parts(option)))
            except Unsaid:
                self.claims, self.wordings, self.chosen, self.player, self.plural = before
        raise Unsaid(rule)

    def slot(self, name: str) -> str:
        if name.startswith("v:"):
            return name[2:].split("|")[self.plural]
        if name.startswith("there:"):
            noun = self.slot(name[6:])
            return f"there {'are' if words.is_plural(noun.split(',')[0].split(' and ')[0]) else 'is'} {noun}"
        if name in self.slots:
            return self.slots[name](self)
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
        if kinds and self.rng.random() < 0.12:
            wording = self.rng.choice(kinds)
        else:
            wording = self.pick(names, fitting, PLAIN_SHARE)
        plain = words.bare(wording) in player.instrument or wording in ("drums", "strings", "a bass guitar")
        if plain and (sound := self.adjective(player)) and sound not in wording:
            with_sound = f"{sound} {words.bare(wording)}"
            wording = words.with_article(with_sound) if wording.startswith(("a ", "an ")) else with_sound
        if wording in words.KINDS:
            self.claim(f"kind:{player.instrument}", wording)
        self.claim("plays", player.instrument, once=False)
        self.plural = words.is_plural(wording)
        return noun(wording)

    def adjective(self, player: Player) -> str:
        """What the instrument sounds like by nature, or how it is played here; often nothing."""
        if not player.family:
            return ""  # a class of instruments: they do not sound alike
        draw = self.rng.random()
        if draw < 0.5:
            by_nature = "chip" if "chip" in self.facts.sound else player.instrument
            return self.pick(words.SOUNDS.get(by_nature, words.SOUNDS[player.family]))
        measured = [
            (kind, value, f"{player.instrument}: {value}")
            for kind in ("articulation", "register", "pace")
            if (value := getattr(player, kind))
        ]
        measured += [("repeats", "repeats", player.instrument)] if player.repeats else []
        measured = [row for row in measured if Claim(row[0], row[2]) not in self.claims]
        if draw > 0.75 or not measured:
            return ""
        kind, value, claimed = self.rng.choice(measured)
        self.claim(kind, claimed, once=False)
        return self.pick(words.TABLES["playing"][value])

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
        """The player as a phrase: "arpeggios on a harp", or, with `acting`, "a harp playing arpeggios"."""
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

    def stated(self, kind: str, value: str, rule: str) -> str:
        """A rule below `fact:` for a value that holds. Raises: Unsaid without one."""
        if not value or f"fact:{rule}" not in RULES:
            raise Unsaid(kind)
        self.claim(kind, value)
        return self.expand(f"fact:{rule}").rstrip(".")

    def again(self, player: Player) -> str:
        """An instrument that may have been named before."""
        wording = words.INSTRUMENT_NAMES.get(player.instrument, (player.instrument,))[0]
        if Claim("plays", player.instrument) not in self.claims:
            self.claim("plays", player.instrument, once=False)
        self.plural = words.is_plural(wording)
        return words.bare(wording)
