"""What a sentence asks for in so many words: the table is the grammar's other half, with what must be left alone."""

import time

import pytest

from musiclm.core.asked import find_tempo, key_of, tempo_of
from musiclm.core.theory import FLATS, PITCHES, parse_key

# phrase, tempo, key
PHRASES: list[tuple[str, float | None, str | None]] = [
    # tempi as people write them
    ("Surf rock at 168 BPM.", 168, None),
    ("techno, 128bpm", 128, None),
    ("techno 128 bpm", 128, None),
    ("a 95-bpm groove", 95, None),
    ("120.5 bpm", 120.5, None),
    ("120,5 bpm", 120.5, None),
    ("house at 124 B.P.M.", 124, None),
    ("90 beats per minute, dusty drums", 90, None),
    ("90 beats a minute", 90, None),
    ("110 beats in a minute", 110, None),
    ("a waltz of 90 beats/min", 90, None),
    ("one beat per second, 60 beats per minute", 60, None),
    ("tempo 90", 90, None),
    ("tempo: 120", 120, None),
    ("Tempo = 120", 120, None),
    ("tempo:120, piano", 120, None),
    ("a tempo of 84", 84, None),
    ("the tempo is about 84", 84, None),
    ("with the tempo set to 84", 84, None),
    ("bpm: 174", 174, None),
    ("BPM 174 drum and bass", 174, None),
    ("bpm=174", 174, None),
    ("at about 100 bpm", 100, None),
    ("~100 bpm", 100, None),
    ("♩ = 72, cantabile", 72, None),
    ("♩=72", 72, None),
    ("quarter note = 72", 72, None),
    ("M.M. 66", 66, None),
    ("metronome 66", 66, None),
    ("ninety beats per minute", 90, None),
    ("one hundred and twenty bpm", 120, None),
    ("a hundred bpm", 100, None),
    ("one-twenty-five BPM", 125, None),
    ("one hundred forty-four BPM", 144, None),
    ("twenty-eight beats a minute", 28, None),
    ("one oh five bpm", 105, None),
    ("tempo: ninety", 90, None),
    ("a tempo of one hundred and ten", 110, None),
    ("tempo: one drum", None, None),
    ("the tempo should be 100", 100, None),
    ("120 bpms", 120, None),
    ("starts at 90 bpm, then 120 bpm", 90, None),
    ("90 or 120 bpm", 90, None),
    # ranges: their middle
    ("120 to 140 bpm", 130, None),
    ("120-140 BPM", 130, None),
    ("120–140 bpm", 130, None),
    ("between 90 and 100 bpm", 95, None),
    ("from 120 bpm to 126 bpm", 123, None),
    ("tempo: 100-110", 105, None),
    ("a tempo between 100 and 120", 110, None),
    ("tempo from 100 to 120", 110, None),
    ("tempo 100 and 120 voices", 100, None),
    ("ninety to one hundred bpm", 95, None),
    ("ninety or one hundred bpm", 90, None),
    ("60 to 180 bpm", None, None),
    ("tempo 100-110bpm", 105, None),
    ("bpm 100-110 bpm", 105, None),
    ("tempo 100 bpm to 110 bpm", 105, None),
    ("tempo: 100bpm", 100, None),
    ("100 ~ 110 bpm", 105, None),
    ("100 bpm ~ 110 bpm", 105, None),
    ("tempo 100~110", 105, None),
    ("more like 100 than 120 bpm", 100, None),
    ("100 rather than 120 bpm", 100, None),
    ("100 bpm instead of 120 bpm", 100, None),
    # bounds and denials: no tempo
    ("not 120 bpm", None, None),
    ("not at 120 bpm", None, None),
    ("please don't use 120 bpm", None, None),
    ("never a tempo of 120", None, None),
    ("anything but 120 bpm", None, None),
    ("instead of 120 bpm", None, None),
    ("not 120 bpm but 90 bpm", 90, None),
    ("90 bpm, not 120 bpm", 90, None),
    ("nothing but 120 bpm", 120, None),
    ("not too fast, 120 bpm", 120, None),
    ("no drums, 120 bpm", 120, None),
    ("under 100 bpm", None, None),
    ("faster than 120 bpm", None, None),
    ("at least 120 bpm", None, None),
    ("up to 140 bpm", None, None),
    ("no more than 140 bpm", None, None),
    ("120 bpm or more", None, None),
    ("120 bpm max", None, None),
    ("120 bpm at most", None, None),
    ("120+ bpm", None, None),
    ("rapping over a 90 bpm beat", 90, None),
    # numbers that are no tempi
    ("an 808 and 7 players in the 80s", None, None),
    ("in 120 seconds", None, None),
    ("a tempo 4/4 march", None, None),
    ("tempo 12/8", None, None),
    ("tempo 80s style", None, None),
    ("tempo 100%", None, None),
    ("at 440 Hz", None, None),
    ("1,200 bpm", None, None),
    ("5 bpm", None, None),
    ("slow tempo, 3 guitars", None, None),
    ("120 guitars", None, None),
    ("allegro", None, None),
    # keys as people write them
    ("A sad melody in D minor.", None, "D minor"),
    ("A jazz tune in B flat major with saxophone.", None, "A# major"),
    ("Eb minor waltz", None, "D# minor"),
    ("in c# minor, slow", None, "C# minor"),
    ("a fugue, A minor, for organ", None, "A minor"),
    ("in the key of F♯ major", None, "F# major"),
    ("The key is G minor", None, "G minor"),
    ("key: Ab maj", None, "G# major"),
    ("C sharp minor and then E major", None, "C# minor"),
    ("A-flat major march", None, "G# major"),
    ("a song in C Major", None, "C major"),
    ("a song in A Minor", None, "A minor"),
    ("A MINOR, slow", None, "A minor"),
    ("in C-major", None, "C major"),
    ("in F# min", None, "F# minor"),
    ("in F#min", None, "F# minor"),
    ("in Bbmaj", None, "A# major"),
    ("in Am", None, "A minor"),
    ("ballad in F#m, slow", None, "F# minor"),
    ("key of Dm", None, "D minor"),
    ("key=Ebm", None, "D# minor"),
    ("house, F#m, 124 bpm", 124, "F# minor"),
    ("Am, 120 bpm", 120, "A minor"),
    ("in the key of C", None, "C major"),
    ("key of a minor", None, "A minor"),
    ("in the minor key of E", None, "E minor"),
    ("a waltz in G", None, "G major"),
    ("a waltz in G with strings", None, "G major"),
    ("a waltz in E flat", None, "D# major"),
    ("a march in Bb for brass", None, "A# major"),
    ("in A.", None, "A major"),
    ("in a minor at 90 bpm", 90, "A minor"),
    ("a sad song in a minor", None, "A minor"),
    ("slow piano d minor", None, "D minor"),
    ("something in A minor key", None, "A minor"),
    ("E minor pentatonic solo", None, "E minor"),
    ("D harmonic minor", None, "D minor"),
    ("G natural minor, oud", None, "G minor"),
    ("C major scale practice", None, "C major"),
    ("in b minor", None, "B minor"),
    ("Csharp minor", None, "C# minor"),
    ("HOUSE IN C MAJOR", None, "C major"),
    ("from C major to A minor", None, "C major"),
    ("C♭ major", None, "B major"),
    ("in D–minor", None, "D minor"),
    ("Music in A minor that is calm", None, "A minor"),
    ("in A with drums", None, "A major"),
    ("in A way with drums", None, None),
    ("[Am] piano", None, "A minor"),
    ("strings [Am]", None, "A minor"),
    ("in c#m", None, "C# minor"),
    ("a D minor fugue", None, "D minor"),
    ("an E minor waltz", None, "E minor"),
    ("the d minor fugue", None, "D minor"),
    ("An A minor melody", None, "A minor"),
    ("an a minor melody", None, "A minor"),
    ("the A major theme", None, "A major"),
    ("a slow A minor ballad", None, "A minor"),
    ("a B minor ballad", None, "B minor"),
    # denied keys
    ("not in C major", None, None),
    ("not C major", None, None),
    ("anything but D minor", None, None),
    ("not in C major but in A minor", None, "A minor"),
    ("not in the key of C", None, None),
    ("I don't like C major", None, None),
    ("avoid keys like C major", None, None),
    ("please don't write it in C major", None, None),
    ("unlike C major", None, None),
    # articles, chords, intervals, other modes, words
    ("a song in a minor key", None, None),
    ("In a major city at night", None, None),
    ("in A major way", None, None),
    ("A minor mistake, a major hit", None, None),
    ("A minor and sad piece", None, None),
    ("A minor scale piece", None, None),
    ("a slow a minor ballad", None, None),
    ("A Song With A Minor Change", None, None),
    ("a song with A minor change", None, None),
    ("a C major triad", None, None),
    ("a minor, sad key", None, None),
    ("A SONG IN A MINOR KEY", None, None),
    ("The band minor league", None, None),
    ("a plan b major release", None, None),
    ("a C major chord", None, None),
    ("E minor seventh chords", None, None),
    ("Cmaj7 and Dm7 chords", None, None),
    ("in Am7", None, None),
    ("up a major third", None, None),
    ("in D dorian", None, None),
    ("I am sad", None, None),
    ("Am I alone", None, None),
    ("in am radio style", None, None),
    ("in cm", None, None),
    ("H moll", None, None),
    ("in minor", None, None),
    ("plan B", None, None),
    ("music in a bar", None, None),
    ("don't be minor", None, None),
    # both
    ("house at 124 BPM in A minor", 124, "A minor"),
    ("tempo: 72, key: B flat major", 72, "A# major"),
    ("a calm piano piece with soft strings", None, None),
    ("", None, None),
]


def test_there_are_enough() -> None:
    assert len(PHRASES) >= 100 and len({phrase for phrase, _, _ in PHRASES}) == len(PHRASES)


@pytest.mark.parametrize(("text", "bpm", "key"), PHRASES)
def test_what_a_phrase_asks_for(text: str, bpm: float | None, key: str | None) -> None:
    assert (tempo_of(text), key_of(text)) == (bpm, key)


def test_where_the_number_stands() -> None:
    for text, number in (("at 168 BPM.", "168"), ("tempo: 72!", "72"), ("120 to 140 bpm", "120 to 140")):
        found = find_tempo(text)
        assert found is not None and text[found.start : found.stop] == number


def test_a_prompt_may_say_every_key_that_the_option_takes() -> None:
    for tonic in (*PITCHES, *FLATS):
        for mode in ("major", "minor"):
            for name in (f"{tonic} {mode}", f"{tonic.replace('b', ' flat').replace('#', ' sharp')} {mode}"):
                index, found = parse_key(name)
                assert key_of(f"a tune in {name}") == f"{PITCHES[index]} {found}" and found == mode


@pytest.mark.parametrize(
    "piece",
    ["a ", "not a ", "90 ", "in A way ", "tempo of of ", "key of the ", "nothing but ", "one hundred ", "90     "],
)
def test_the_longest_prompt_takes_no_time(piece: str) -> None:
    prompt = (piece * 10_000)[:9_970] + ", in D minor at 90 bpm."
    began = time.process_time()
    assert (tempo_of(prompt), key_of(prompt)) == (90, "D minor")
    assert time.process_time() - began < 2
