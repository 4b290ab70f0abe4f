"""From facts to what people would say: tags, phrases, sentences, descriptions; each with the claims it makes (`writer`,
`slots`, `wording`).
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from musiclm.data.captions import words
from musiclm.data.captions.facts import Facts
from musiclm.data.captions.slots import SLOTS
from musiclm.data.captions.writer import ORDER, Claim, Unsaid, Writer

TITLED_SHARE = 0.08
LEAST_WORDS = {"tags": 2, "phrase": 2, "sentence": 5, "description": 24}
KINDS = ("tags", "phrase", "sentence", "description")
TOPICS = ("melody", "riff", "backing", "bass", "rhythm")


@dataclass(frozen=True)
class Caption:
    kind: str
    text: str
    claims: tuple[Claim, ...]
    wordings: frozenset[str]  # ways and words drawn, to tell held-out ones from the others


def finish(text: str) -> str:
    """Articles, spaces, capitals."""
    text = re.sub(r"\b(?:a|A)\(n\) (?:an? )?(\S+)", lambda m: words.with_article(m[1]), text)
    text = re.sub(r" +", " ", text)
    text = re.sub(r"\s+([,.;:])", r"\1", text).strip(" ,")
    return re.sub(r"([.!?] )([a-z])", lambda m: m[1] + m[2].upper(), text)


def write(
    facts: Facts,
    kind: str,
    rng: random.Random,
    *,
    held_out: bool = False,
    least_words: Mapping[str, int] = LEAST_WORDS,
) -> Caption:
    """A caption of a kind of `KINDS`, in `least_words` of that kind or more if the facts allow.

    With nothing to say it is "music", and claims nothing.
    """
    for attempt in range(6):
        writer = Writer(facts, rng, SLOTS, held_out)
        try:
            text = finish(COMPOSERS[kind](writer))
        except Unsaid:
            continue
        if re.search(r"\b(\w{3,}) \1\b", text.lower()):
            continue  # "a sacred sacred tune"
        if len(text.split()) >= least_words[kind] or attempt == 5:
            text = _capital(text) if kind not in ("tags", "phrase") or rng.random() < 0.3 else text
            text = _titled(writer, text)
            return Caption(kind, text, tuple(writer.claims), frozenset(writer.wordings))
    return Caption(kind, "music", (), frozenset())


def captions(facts: Facts, rng: random.Random, each: int = 2, *, held_out: bool = False) -> list[Caption]:
    """`each` captions of every kind; descriptions twice as many, for they are what people write."""
    counts = {"description": 2 * each}
    return [write(facts, kind, rng, held_out=held_out) for kind in KINDS for _ in range(counts.get(kind, each))]


def _tags(writer: Writer) -> str:
    """Words between commas, in any order."""
    makers: list[Callable[[], str]] = [
        partial(writer.slot, name) for name in ("stylemass", "mood", "mood", "bpm", "speed")
    ]
    makers += [lambda: writer.several(ORDER, 1, 1, lambda p: words.bare(writer.name(p)))] * 4
    makers += [
        lambda: writer.expand("key_tag"),
        lambda: words.bare(writer.slot("use")) + " music",
    ]
    makers += [lambda: f"{writer.slot('lead_mod')} melody", lambda: writer.expand("tag")]
    if _has_extra(writer.facts):
        makers += [lambda: words.bare(writer.expand("extra"))] * 2
    writer.rng.shuffle(makers)
    found: list[str] = []
    for maker in makers[: writer.rng.randint(2, 9)]:
        before = list(writer.claims), set(writer.wordings)
        try:
            tag = maker()
            if tag not in found:
                found.append(tag)
        except Unsaid:
            writer.claims, writer.wordings = before
    if not found:
        raise Unsaid("tags")
    return writer.rng.choice((", ", ", ", ", ", "; ", " ")).join(found)


def _phrase(writer: Writer) -> str:
    text = writer.expand("phrase")
    if not writer.facts.has_roles and writer.rng.random() < 0.5:
        return _with_more(writer, text, ", ", ("tag", "tag", "key_tag"))
    return _with_extra(writer, text)


def _sentence_caption(writer: Writer) -> str:
    text = _capital(_with_extra(writer, writer.expand("asking" if writer.rng.random() < 0.2 else "sentence")))
    if not writer.facts.has_roles and writer.rng.random() < 0.4:
        return _with_more(writer, text, " ", ("tempo", "mood", "sound", "use", "absent", "key"))
    return text


def _has_extra(facts: Facts) -> bool:
    """Whether the rule `extra` has something to say: singers, or a steady beat."""
    return bool(facts.singing) or any(name in words.BEATS for name in facts.beat)


def _with_extra(writer: Writer, text: str) -> str:
    """At times with a singer or a beat behind it, where there is one: "sad piano music, with female vocals"."""
    if not _has_extra(writer.facts) or text.endswith(("?", ":")) or writer.rng.random() < 0.5:
        return text
    body, stop = text.removesuffix("."), "." if text.endswith(".") else ""
    return f"{body}, {writer.rng.choice(('with', 'with', 'featuring'))} {writer.expand('extra')}{stop}"


def _with_more(writer: Writer, text: str, link: str, rules: Sequence[str]) -> str:
    """With what one of the rules says behind it, if it can say anything: what is written without roles is short."""
    before = list(writer.claims), set(writer.wordings)
    try:
        more = writer.expand(writer.rng.choice(rules))
    except Unsaid:
        writer.claims, writer.wordings = before
        return text
    return text + link + (_capital(more).rstrip(" .:") + "." if link == " " else words.bare(more))


def _titled(writer: Writer, text: str) -> str:
    """Seldom with the title before it, where the piece has one."""
    if not writer.facts.title or writer.rng.random() >= TITLED_SHARE:
        return text
    writer.claim("title", writer.facts.title)
    return finish(f"{writer.facts.title}{writer.rng.choice((': ', ' - ', ', '))}{text}")


def _description(writer: Writer) -> str:
    """Sentences in an order that people like: what it is, who plays what, how fast, what happens, how it feels, what it
    is for.
    """
    rng = writer.rng
    plan = ["asking" if rng.random() < 0.1 else "opening"]
    if not writer.facts.has_roles:  # rules of TOPICS speak of who plays what
        plan += [rng.choice(("features", "sound", "mood", "tempo")) for _ in range(2)]
        plan.insert(rng.randint(1, len(plan)), "features")
    elif rng.random() < 0.4:
        plan += [rng.choice(("features", "layers")), *rng.sample(TOPICS, rng.choice((0, 1, 1, 2)))]
    else:
        plan += [topic for topic in TOPICS if rng.random() < 0.75]
    if rng.random() < 0.3:
        plan.insert(rng.randint(1, len(plan)), "events")
    more = [name for name, probability in MORE if rng.random() < probability]
    more += ["who sings", "beat"] if _has_extra(writer.facts) else []
    rng.shuffle(more)
    plan += more
    if rng.random() < 0.2:
        plan.insert(1, "tempo")
    plan += [
        name
        for name, probability in (("mood", 0.6), ("use", 0.5), ("absent", 0.15), ("sound", 0.2))
        if rng.random() < probability
    ]
    return " ".join(_paragraph(writer, plan[: rng.choice((4, 5, 6, 7, 7, 8, 8, 9, 10, 12))]))


def _paragraph(writer: Writer, plan: Sequence[str]) -> list[str]:
    sentences: list[str] = []
    for rule in plan:
        try:
            said = _capital(writer.expand(rule).rstrip(" .:") + ".")
        except Unsaid:
            continue
        alike = sentences and sentences[-1].split()[:2] == said.split()[:2]
        sentences.append(said if not alike else _vary(said))
    if not sentences:
        raise Unsaid("description")
    return sentences


def _vary(sentence: str) -> str:
    """Two sentences in a row do not begin alike."""
    return re.sub(r"^It ", "The music ", re.sub(r"^There (is|are) ", r"One can also hear ", sentence))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


MORE = (
    ("tempo", 0.5),
    ("key", 0.25),
    ("texture", 0.45),
    ("events", 0.25),
    ("absent", 0.15),
    ("mood", 0.35),
    ("sound", 0.25),
)
COMPOSERS: dict[str, Callable[[Writer], str]] = {
    "tags": _tags,
    "phrase": _phrase,
    "sentence": _sentence_caption,
    "description": _description,
}
