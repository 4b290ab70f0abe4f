"""Duplicates and splits: pure functions of names and content, whatever the order."""

import base64
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musiclm.data.corpus.assemble import NEAR_SECONDS, TEST_SHARE, VALIDATION_SHARE, assemble, is_near, piece_share
from musiclm.data.corpus.sources import HELD_OUT_PACKAGES, Item, debian_items, piece_name


def item(origin, package="p", piece=None, **rest):
    return Item(
        source="s",
        package=package,
        origin=origin,
        parts=(origin,),
        root=Path("/r"),
        stamp="1",
        piece=piece or origin,
        **rest,
    )


def record(content, seconds=60.0, levels=None):
    if levels is None:
        levels = np.random.default_rng(content).integers(60, 200, 128)
    return {
        "id": f"{content:016x}",
        "sha256": f"{content:064x}",
        "seconds": seconds,
        "fingerprint": base64.b64encode(np.asarray(levels, np.uint8).tobytes()).decode(),
    }


@settings(max_examples=20)
@given(st.randoms())
def test_order_of_finishing_changes_nothing(shuffle: random.Random):
    items = [item(f"{number:02}", piece=f"piece {number // 2}") for number in range(20)]
    records = {each.key: record(number % 15, 60.0 + number % 15) for number, each in enumerate(items)}
    expected = assemble(items, records, final=True)
    keys = list(records)
    shuffle.shuffle(items)
    shuffle.shuffle(keys)
    assert assemble(items, {key: records[key] for key in keys}, final=True) == expected
    assert [track.origin for track in expected[0]] == [f"{number:02}" for number in range(15)]
    assert {line["reason"] for line in expected[1]} == {f"same audio as p/{number:02}" for number in range(5)}


def test_nearly_equal_audio_is_dropped_and_other_lengths_are_not():
    levels = np.random.default_rng(0).integers(60, 200, 128)
    items = [item(name) for name in "abcd"]
    records = {
        items[0].key: record(1, 60.0, levels),
        items[1].key: record(2, 60.2, levels + 8),  # 3 dB louder, and a little longer
        items[2].key: record(3, 61.0, levels),
        items[3].key: record(4, 60.0, np.random.default_rng(1).integers(60, 200, 128)),
    }
    tracks, skipped = assemble(items, records, final=True)
    assert [track.origin for track in tracks] == ["a", "c", "d"]
    assert skipped == [{"source": "s", "package": "p", "origin": "b", "reason": "nearly the same audio as p/a"}]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_what_is_compared_in_outline_is_what_is_compared_as_a_whole(seed, num):
    """Copies of five recordings, as far from them as counts as near, and farther."""
    random = np.random.default_rng(seed)
    originals = random.integers(80, 180, (5, 128))
    items, records = [item(f"{number:02}") for number in range(num)], {}
    for number, each in enumerate(items):
        noise = np.repeat(random.normal(size=128 // 4), 4) if number % 2 else random.normal(size=128)
        noise = noise * random.uniform(0.0, 2.5) + random.integers(-20, 20) * (np.arange(128) < 64)
        levels = np.clip(np.rint(originals[random.integers(5)] + noise), 0, 255)
        records[each.key] = record(number, 60 + random.uniform(0, 0.6), levels)
    kept: list[tuple[float, np.ndarray]] = []
    for each in items:
        seconds = records[each.key]["seconds"]
        mine = np.frombuffer(base64.b64decode(records[each.key]["fingerprint"]), np.uint8).astype(np.float32) * 0.375
        if not any(abs(seconds - other) <= NEAR_SECONDS and is_near(mine, levels) for other, levels in kept):
            kept.append((seconds, mine))
    tracks, skipped = assemble(items, records, final=True)
    assert len(tracks) == len(kept) and len(skipped) == num - len(kept)
    assert [track.seconds for track in tracks] == [round(seconds, 4) for seconds, _ in kept]


@settings(max_examples=40)
@given(st.lists(st.text(min_size=1, max_size=4), min_size=3, max_size=30, unique=True))
def test_a_piece_lies_in_one_split_and_every_split_has_one(pieces):
    items = [item(f"{number} {take}", piece=piece) for number, piece in enumerate(pieces) for take in range(2)]
    records = {each.key: record(number, 10.0 + number) for number, each in enumerate(items)}
    tracks, _ = assemble(items, records, final=True)
    split_of = {}
    for track in tracks:
        assert split_of.setdefault(track.piece, track.split) == track.split
    assert set(split_of.values()) == {"train", "validation", "test"}


def test_more_music_moves_no_piece_that_the_hash_has_placed():
    items = [item(f"{number}") for number in range(400)]
    records = {each.key: record(number, 10.0 + number) for number, each in enumerate(items)}
    few = {track.origin: track.split for track in assemble(items[:200], records, final=True)[0]}
    many = {track.origin: track.split for track in assemble(items, records, final=True)[0]}
    assert all(many[origin] == split for origin, split in few.items())
    shares = [sum(split == name for split in many.values()) / 400 for name in ("test", "validation")]
    assert shares == pytest.approx([TEST_SHARE, VALIDATION_SHARE], abs=0.03)
    assert 0 <= piece_share("x") < 1


def test_held_out_packages_are_tested_on_and_what_is_no_music_is_listed():
    items = [item("a", "zaz-data", held_out=True), item("b"), item("rain", use="effect"), item("broken")]
    records = {items[0].key: record(1), items[1].key: record(2, 70.0), items[3].key: {"skipped": "truncated"}}
    tracks, skipped = assemble(items, records, final=False)
    assert {track.origin: (track.split, track.held_out) for track in tracks}["a"] == ("test", True)
    assert [line["reason"] for line in skipped] == ["truncated", "not music (effect)"]


@pytest.mark.parametrize(
    ("name", "piece"),
    [
        ("celtic", "celtic"),
        ("Celtic_fast", "celtic"),
        ("jumping_remake_fast", "jumping"),
        ("menu (2)", "menu"),
        ("Song - v2", "song"),
        ("theme (Remix)", "theme"),
        ("track_2", "track 2"),
        ("breakfast", "breakfast"),
        ("fast", "fast"),
        ("remix", "remix"),
        ("a.b-c_d", "a b c d"),
    ],
)
def test_variants_share_a_piece(name, piece):
    assert piece_name(name) == piece


def test_the_shipped_table_is_whole():
    items = debian_items(Path("/cache"))
    assert len({each.key for each in items}) == len(items) > 900
    assert {each.package for each in items if each.held_out} == HELD_OUT_PACKAGES
    assert all(each.licence and each.title and each.piece for each in items)
    assert {each.use for each in items} == {"music", "effect", "speech"}
    pieces = {each.origin.rsplit("/", 1)[-1]: each.piece for each in items if each.package == "supertuxkart-data"}
    assert pieces["celtic_fast.ogg"] == pieces["celtic.ogg"] and pieces["farm_f.ogg"] == pieces["farm.ogg"]
