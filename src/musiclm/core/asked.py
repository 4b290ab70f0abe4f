r"""Which tempo and which key a sentence asks for in so many words.

A tempo is a number beside the word for it. (Capitals, spaces and hyphens between do not matter; ^ stands for "or".)

    tempo    = number unit | label number
    number   = 2 or 3 digits, if wanted with decimals: 120, 120.5, 120,5
             | in words: ninety, one hundred and twenty, one twenty, one oh five; after a label from twenty on
    unit     = bpm | b.p.m. | beats per (a, in a, /) minute (min)
    label    = tempo | bpm | MM | metronome | a note sign or "quarter (note)" and =
               then, if wanted, of, is, should be, at, to, :, =, about ...
    range    = number (unit) to ^ - ^ ~ ^ and number unit, in words "to" alone
             | label number (unit) to ^ - ^ ~ number (unit) | label between number and number
               its middle, if its upper end is at most 1.5 times the lower; else no tempo. Of "90 or 120 bpm" the
               first, as of "90 rather than 120 bpm"
    no tempo = what is denied (not, no, never, other than, instead of ... 120 bpm)
             | a bound (under, over, at least, up to 120 bpm; 120+ bpm, 120 bpm max)

The first tempo that is not denied counts: "not 120 bpm but 90 bpm" asks for 90. Numbers without unit or label ask for
nothing.

A key is a tonic and a mode.

    key      = tonic mode | mode key of tonic | (in ^ key of ^ key:) tonic, which is major
    tonic    = A to G, if wanted with # ♯ sharp or b ♭ flat
    mode     = major | minor | maj | min, minor also natural, harmonic or melodic
             | m right after a capital or a sharp (Am, c#m), after "in" or "key (of)", or alone between commas

What may be an article or a chord is left alone. "a minor" is a key after "key of", after another article ("an A minor
theme", and "a slow A minor theme" with a capital), and after "in" where the sentence ends or goes on with at, with or a
number; "A minor" in the middle of a sentence also before commas and words such as "and", "for", "that", "key", "scale";
so "in A major way" and "in a minor key" name none. "C major 7", "E minor chord", "a major third" and other modes
(D dorian) name none either. Denied keys are passed over as tempi are.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from musiclm.core.theory import PITCHES, SIGN, tonic_of

WIDEST_RANGE = 1.5  # of a tempo: upper end over lower end
_NEAR = 80  # characters before and after that decide what is meant

# numbers in words
_ONES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_SMALL = {name: value for value, name in enumerate([*_ONES, *_TEENS], 1)}
_TENS = {
    name: 10 * value
    for value, name in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], 2)
}
_AND_ONES = rf"(?:[ -](?:{'|'.join(_ONES)}))?"
_TENS_AND_ONES = rf"(?:{'|'.join(_TENS)}){_AND_ONES}"
_BELOW_100 = rf"(?:{_TENS_AND_ONES}|{'|'.join(reversed(_SMALL))})"
_HUNDREDS = (
    rf"(?:a|one|two) hundred(?:(?: and)? {_BELOW_100})?"
    rf"|(?:one|two)[ -](?:{_TENS_AND_ONES}|ten|eleven|twelve|\w+teen|oh[ -](?:{'|'.join(_ONES)}))"
)
_WORDS = rf"(?:{_HUNDREDS}|{_BELOW_100})"
_LARGE_WORDS = rf"(?:{_HUNDREDS}|{_TENS_AND_ONES})"  # "tempo: one drum" tells none
_DIGITS = r"\d{2,3}(?:[.,]\d{1,2})?"

_UNIT = r"(?:bpms?\b|b\.p\.m\b\.?|beats?(?:\s*/\s*|[ -](?:per|a|in a|every|each)[ -])min(?:ute)?s?\b)"
_ABOUT = (
    r"(?:(?:about|around|approximately|approx\.?|roughly|circa|ca\.?|exactly|of|is|at|to|set to|was|be|from|range|"
    r"(?:should|must|has to) be)\s+|[:=~≈]\s*)*"
)
_LABEL = (
    rf"(?:\b(?:tempo|bpm|m\.?m\.?|metronome(?:\s+mark(?:ing)?)?)\s*{_ABOUT}"
    r"|(?:♩|𝅘𝅥|\bquarter(?:[ -]notes?)?|\bcrotchets?|\bq)\s*[=≈]\s*)"
)
_APART = r"(?<![\w.,:/%$€£])"  # what stands before a number is no part of it
_ALONE = r"(?![\w%+/:]|[.,]\d)"  # nor what stands after it
_THAN = r"(?:(?:rather|more)\s+)?than|instead\s+of"
_JOIN = rf"\s{{0,3}}(?:{_UNIT})?\s{{0,3}}(?P<join>[-–—~]|to|and|or|{_THAN})\s{{0,3}}"
_NUMBER = rf"(?:{_DIGITS}|{_WORDS})"
_AND_UNIT = rf"(?:\s{{0,3}}{_UNIT})?"
_TEMPO = re.compile(
    rf"{_APART}(?:(?P<low>{_DIGITS}){_JOIN}(?:about\s+)?|(?P<words>{_WORDS})\s+(?:{_UNIT}\s+)?(?P<to>to|or)\s+)?"
    rf"(?P<high>{_NUMBER})[\s-]{{0,3}}{_UNIT}"
    rf"|{_LABEL}(?P<between>between\s+)?(?P<low2>{_DIGITS}|{_LARGE_WORDS})"
    rf"(?:{_AND_UNIT}\s*(?:[-–—~]|to|(?(between)and|to))\s*(?P<high2>{_NUMBER}))?{_AND_UNIT}{_ALONE}",
    re.IGNORECASE,
)

# what takes back what follows: a denial and words that may stand between
_BETWEEN = (
    "a|about|an|any|anything|around|as|at|be|choose|exactly|for|go|have|in|it|its|keys?|like|love|make|need|of|pick|"
    "play|please|quite|really|set|such|tempo|the|this|to|use|using|want|with|write|written"
)
_DENIED = re.compile(
    r"(?:\b(?:not|no|never|nor|neither|without|avoid|except|unlike|cannot|anything but|nothing but|instead of|"
    r"rather than|other than)|n['’]t)"
    rf"(?:\s+(?:{_BETWEEN}))*\s*$",
    re.IGNORECASE,
)
_ONLY = re.compile(r"\bnothing but(?:\s+\w+)*\s*$", re.IGNORECASE)  # denies the others
_BOUND_BEFORE = re.compile(
    r"(?:\b(?:less|more|slower|faster|lower|higher|greater|quicker|fewer)\s+than|"
    r"\b(?:under|over|below|above|beyond|exceeding|past|"
    r"up\s+to|at\s+(?:most|least)|max(?:imum)?(?:\s+of)?|min(?:imum)?(?:\s+of)?|"
    r"no\s+more\s+than|no\s+less\s+than)|[<>≤≥]=?)\s*$",
    re.IGNORECASE,
)
_BOUND_AFTER = re.compile(
    r"\s*(?:,\s*)?(?:(?:or|and)\s+(?:more|less|faster|slower|above|below|over|under|up|higher|lower)|"
    r"(?:at\s+(?:the\s+)?)?(?:max(?:imum)?|min(?:imum)?|most|least|tops))\b",
    re.IGNORECASE,
)

_CANDIDATE = re.compile(
    rf"(?<![\w#♯♭'’&-])(?P<letter>[A-Ga-g])(?P<sign>(?i:{SIGN}))?"
    rf"(?:[ –-]?(?P<mode>(?i:(?:natural |harmonic |melodic )?(?:major|minor|maj|min)))(?![\w#♯♭])|(?P<m>m)(?![\w#♯♭]))?"
)
_LABELLED = re.compile(
    r"(?:\b(?P<mode>major|minor)\s+)?\bkey(?:\s+signature)?(?:\s+(?:of|is|in)|\s*[:=–-])*\s*$", re.IGNORECASE
)
_AFTER_IN = re.compile(r"\bin\s+$", re.IGNORECASE)
_LABEL_OF_KEY = re.compile(
    r"(?:\bin\s+)?(?:\bthe\s+)?(?:\b(?:major|minor)\s+)?(?:\bkey(?:\s+signature)?)?(?:\s+(?:of|is|in)|\s*[:=–-])*\s*$",
    re.IGNORECASE,
)
_CLAUSE_BEGINS = re.compile(r"(?:^|[,.;:(\[!?–—/\n\"“|])\s*$")
_ENDS = re.compile(r"\s*(?:$|[.,;:!?)\]/\"”–—|\n])")
_ENDS_HARD = re.compile(r"\s*(?:$|[.;!?)\]\n])")
_GOES_ON = re.compile(
    r"\s+(?:at|with|and|for|by|on|but|or|using|played|featuring|from|to|then|as|like|that|which|who|while|"
    r"throughout|please|around|about|tempo|bpm|\d|-)",
    re.IGNORECASE,
)
_GOES_ON_HARD = re.compile(r"\s+(?:at|with|tempo|\d|\()", re.IGNORECASE)
_SCALE = re.compile(r"[ -]+(?:key|scale|scales|tonality|pentatonic|blues)\b", re.IGNORECASE)
_CHORD = re.compile(
    r"[ -]*(?:\d|#|add\d|sus|seconds?\b|thirds?\b|fifths?\b|sixths?\b|sevenths?\b|ninths?\b|chords?\b|"
    r"triads?\b|intervals?\b)",
    re.IGNORECASE,
)
_OTHER_MODE = re.compile(
    r"[ -]+(?:dorian|mixolydian|lydian|phrygian|locrian|aeolian|ionian|pentatonic|blues|whole|chromatic)\b",
    re.IGNORECASE,
)
_NO_NOTE = re.compile(
    r"\b(?:plan|grade|class|type|level|vitamin|section|part|side|option|team|group|hepatitis|"
    r"exhibit|string)\s+$",
    re.IGNORECASE,
)
# articles are not followed by another one
_AFTER_ARTICLE = re.compile(r"\b(?:an?|the|this|that)\s+$", re.IGNORECASE)
_AFTER_ADJECTIVES = re.compile(
    r"\b(?:an?|the|this|that|some)"
    r"(?:\s+(?!(?:and|as|at|but|by|for|from|has|in|is|like|of|on|or|to|with)\b)\w+){1,2}\s+$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Found:
    """A tempo and where in the text it stands."""

    bpm: float
    start: int
    stop: int


def find_tempo(text: str) -> Found | None:
    """The first tempo in numbers that a text asks for; `start` and `stop` enclose the number, or both of a range."""
    for match in _TEMPO.finditer(text):
        given = [name for name in ("low", "words", "high", "low2", "high2") if match[name]]
        first, last = given[0], given[-1]
        before = text[max(0, match.start() - _NEAR) : match.start()]
        denied = _DENIED.search(before) and not _ONLY.search(before)
        if denied or _BOUND_BEFORE.search(before) or _BOUND_AFTER.match(text, match.end()):
            continue
        low, high = _number(match[first]), _number(match[last])
        if (match["join"] or match["to"] or "-").lower().split()[-1] in ("or", "than", "of"):
            high = low
        if max(low, high) > WIDEST_RANGE * min(low, high):
            continue
        return Found((low + high) / 2, match.start(first), match.end(last))
    return None


def tempo_of(text: str) -> float | None:
    """The first tempo in numbers that a text asks for, in beats a minute; the middle of a range."""
    found = find_tempo(text)
    return found.bpm if found else None


def _number(text: str) -> float:
    """Of digits or words."""
    if text[0].isdigit():
        return float(text.replace(",", "."))
    total, hundreds = 0, 0
    words = [word for word in re.split(r"[\s-]+", text.lower()) if word != "and"]
    if "oh" in words:
        words[words.index("oh")] = "hundred"
    for index, word in enumerate(words):
        if word == "hundred":
            hundreds, total = max(1, total), 0
        elif word == "a":
            total = 1
        else:
            # "one twenty": a small number before a larger one counts hundreds
            value = _SMALL.get(word) or _TENS[word]
            if index and total and value > 9 and not hundreds:
                hundreds, total = total, 0
            total += value
    return float(100 * hundreds + total)


def key_of(text: str) -> str | None:
    """The first key that a text asks for, such as "D minor" of "A melody in D minor.", sharps for flats."""
    for candidate in _keys(text):
        return candidate
    return None


def _keys(text: str) -> Iterator[str]:
    shouted = text.isupper()  # capitals then tell no letter from an article
    for match in _CANDIDATE.finditer(text):
        before = text[max(0, match.start() - _NEAR) : match.start()]
        after = text[match.end() : match.end() + _NEAR]
        mode = _mode_of(match, before, after, shouted)
        if mode and not _denied_key(before):
            tonic = tonic_of(match["letter"], match["sign"])
            yield f"{PITCHES[tonic]} {mode}"


def _denied_key(before: str) -> bool:
    return bool(_DENIED.search(_LABEL_OF_KEY.sub("", before)) or _DENIED.search(before)) and not _ONLY.search(before)


def _mode_of(match: re.Match[str], before: str, after: str, shouted: bool) -> str:
    """Mode of a candidate, "" if it is no key."""
    letter, sign = match["letter"], match["sign"]
    labelled, after_in = _LABELLED.search(before), bool(_AFTER_IN.search(before))
    small = letter.islower() or shouted
    ends, goes_on = bool(_ENDS.match(after)), bool(_GOES_ON.match(after))
    begins = bool(_CLAUSE_BEGINS.search(before))
    if match["m"]:  # Am
        alone = begins and (ends or bool(_GOES_ON_HARD.match(after)))
        named = (sign in {*"#♯"} or not letter.islower()) and (labelled or after_in or alone)
        return "minor" if named and not _CHORD.match(after) else ""
    if not match["mode"]:  # a tonic alone
        if _OTHER_MODE.match(after) or _CHORD.match(after):
            return ""
        if labelled and (ends or goes_on or _SCALE.match(after)):
            return (labelled["mode"] or "major").lower()
        strict = letter in "Aa" and not sign
        goes_on = bool(_GOES_ON_HARD.match(after)) if strict else goes_on
        named = after_in and not small and (ends or goes_on)
        return "major" if named else ""
    mode = "major" if match["mode"].lower().split()[-1].startswith("maj") else "minor"
    if _CHORD.match(after):
        return ""
    if sign or labelled:
        return mode
    if letter in "Aa":
        if _AFTER_ARTICLE.search(before):
            named = True
        elif small:
            named = after_in and bool(_ENDS_HARD.match(after) or _GOES_ON_HARD.match(after))
        else:
            known = bool(goes_on or _SCALE.match(after)) and not begins
            named = ends or known or (match["mode"].islower() and bool(_AFTER_ADJECTIVES.search(before)))
    elif small:
        named = after_in or (letter not in "Bb" and not _NO_NOTE.search(before))
    else:
        named = not _NO_NOTE.search(before) or after_in
    return mode if named else ""
