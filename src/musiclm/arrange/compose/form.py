"""From the first bar to the last: which sections a piece has, how long and intense they are, and of what."""

import random
from dataclasses import dataclass
from typing import cast, get_args

from musiclm.arrange.score import SectionName

# name, material, intensity in tenths, length in half units; a piece has as many of them as fit, always the first and
# the last
FORMS: dict[str, str] = {
    "song": "intro A 3 1|verse A 5 2|chorus B 8 2|verse A 6 2|chorus B 9 2|"
        "bridge C 4 2|solo A 8 2|chorus B 10 2|outro A 5 1",
    "slow song": "intro A 2 1|verse A 4 2|verse A 5 2|chorus B 7 2|verse A 5 2|solo B 7 2|chorus B 9 2|outro A 3 1",
    "game loop": "intro A 4 1|verse A 6 2|chorus B 8 2|break C 3 1|verse A 7 2|"
        "chorus B 9 2|bridge C 6 2|chorus B 10 2|outro A 6 1",
    "club": "intro A 3 2|verse A 5 2|build-up B 6 1|chorus B 9 2|break C 3 2|"
        "build-up C 6 1|chorus B 10 2|verse A 7 2|outro A 4 2",
    "loop": "intro A 3 1|verse A 6 2|chorus B 7 2|verse A 6 2|break A 3 1|chorus B 8 2|verse A 7 2|outro A 4 1",
    "drift": "intro A 2 2|verse A 4 2|chorus B 6 2|verse A 5 2|bridge C 4 2|chorus B 7 2|outro A 2 2",
    "aaba": "intro A 3 1|verse A 5 2|verse A 6 2|bridge B 7 2|verse A 6 2|"
        "solo A 7 2|solo A 8 2|bridge B 8 2|verse A 9 2|outro A 5 1",
    "blues": "intro A 4 1|verse A 5 2|verse A 6 2|solo A 8 2|solo A 9 2|verse A 7 2|outro A 6 1",
    "tune": "intro A 3 1|verse A 5 2|verse A 6 2|chorus B 7 2|chorus B 7 2|verse A 7 2|"
        "break A 4 2|verse A 8 2|chorus B 9 2|chorus B 10 2|outro A 6 1",
    "through": "intro A 3 1|verse A 4 2|verse B 6 2|bridge C 5 2|verse A 6 2|"
        "chorus B 8 2|bridge C 7 2|verse A 5 2|outro A 3 1",
    "epic": "intro A 2 2|verse A 4 2|verse A 5 2|build-up B 7 1|chorus B 9 2|"
        "break C 3 2|build-up C 7 1|chorus B 10 2|chorus B 10 2|outro A 5 1",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FormSection:
    """A section in bars."""

    name: SectionName
    material: str  # sections of one material share chords and melody
    intensity: float
    num_bars: int


def plan_form(
    name: str, bar_s: float, target_s: float, units: tuple[int, ...], rng: random.Random
) -> tuple[FormSection, ...]:
    """Sections whose bars, of `bar_s` seconds each, come close to `target_s`. `units`: how many bars a verse may have.

    Sections are left out from behind the middle, or said again, before the closing one.
    """
    plans = [_fit(name, unit, bar_s, target_s) for unit in units]
    misses = [abs(sum(block.num_bars for block in plan) * bar_s - target_s) for plan in plans]
    best = min(misses)
    close = [plan for plan, miss in zip(plans, misses, strict=True) if miss <= best + 12 and 4 <= len(plan) <= 13]
    plan = rng.choice(close) if close else plans[misses.index(best)]
    wobble = [rng.uniform(-0.06, 0.06) for _ in plan]
    return tuple(
        FormSection(block.name, block.material, min(1.0, max(0.1, block.intensity + shift)), block.num_bars)
        for block, shift in zip(plan, wobble, strict=True)
    )


def _fit(name: str, unit: int, bar_s: float, target_s: float) -> list[FormSection]:
    blocks = [_block(text, unit) for text in FORMS[name].split("|")]
    first, *body, last = blocks

    def seconds(parts: list[FormSection]) -> float:
        return (first.num_bars + last.num_bars + sum(block.num_bars for block in parts)) * bar_s

    original = list(body)
    while len(body) > 2 and seconds(body) > target_s + body[-1].num_bars * bar_s / 2:
        del body[_least_missed(body)]
    at = 0
    while seconds(body) < target_s - original[at % len(original)].num_bars * bar_s / 2:
        body.append(original[at % len(original)])
        at += 1
    return [first, *body, last]


def _least_missed(body: list[FormSection]) -> int:
    """The last of those sections that are played most often."""
    names = [(block.name, block.material) for block in body]
    return max(range(len(body)), key=lambda index: (names.count(names[index]), body[index].name != "chorus", index))


def _block(text: str, unit: int) -> FormSection:
    name, material, intensity, halves = text.split()
    assert name in get_args(SectionName)
    return FormSection(cast(SectionName, name), material, int(intensity) / 10, max(1, unit * int(halves) // 2))
