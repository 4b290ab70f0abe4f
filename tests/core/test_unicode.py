"""Names that are bytes, prompts that hold what no character is: taken or refused in a line, never a crash."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musiclm.arrange.read.sources import list_files
from musiclm.core import tensors
from musiclm.core.audio import WRITE_FORMATS, load, probe, write_audio
from musiclm.core.bundle import Bundle
from musiclm.core.unicode import UNSAFE, escaped_json, name_text, printable, typed_text
from musiclm.data.corpus import build_corpus, load_manifest
from musiclm.data.corpus.clips import read_clip
from musiclm.data.corpus.manifest import load_skipped
from musiclm.generate.checks import check_prompt
from musiclm.generate.music import read_tags
from tests.forked import Server
from tests.toy import make_store

LATIN = os.fsdecode(b"caf\xe9")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as started:
        yield started


def tone(hz: float) -> np.ndarray:
    time_s = np.arange(24000 * 3) / 24000
    return 0.3 * (0.6 + 0.4 * np.sin(2 * np.pi * time_s * hz / 500)) * np.sin(2 * np.pi * hz * time_s)


def test_names_and_what_was_typed() -> None:
    assert name_text("größe.wav") == "größe.wav" and name_text(Path(f"{LATIN}.wav")) == r"caf\xe9.wav"
    assert typed_text("größe 🎹 静", "it") == "größe 🎹 静"
    assert typed_text(LATIN, "it") == "café" and typed_text(os.fsdecode(b"\x93so\x94\x81"), "it") == "“so” "
    assert typed_text("a\0b\x1bc\td\n", "it") == "a b c\td\n"
    for bad, name in (("a\ud800b", "U+D800"), ("\uffff", "U+FFFF"), ("\ufdd0", "U+FDD0"), ("\U0010fffe", "U+10FFFE")):
        with pytest.raises(ValueError, match=rf"it holds {name.replace('+', '[+]')} at place .*no character"):
            typed_text(bad, "it")
    every = "".join(map(chr, range(0x110000)))
    no_characters = {c for c in UNSAFE.findall(every) if not 0xD800 <= ord(c) <= 0xDFFF and ord(c) > 0x9F}
    assert no_characters == {
        *map(chr, range(0xFDD0, 0xFDF0)),
        *(chr(p << 16 | e) for p in range(17) for e in (0xFFFE, 0xFFFF)),
    }
    assert UNSAFE.sub("", every).encode(), "all that is left can be stored"


def test_unsafe_text_is_stored_as_its_escape() -> None:
    text = 'a\uffff\ud800"\n\\é\0\x85'
    stored = escaped_json({"prompt": text})
    assert not UNSAFE.search(stored) and json.loads(stored) == {"prompt": text} and "é" in stored
    assert printable("a\uffffb") == "a\ufffdb"


@pytest.mark.parametrize("suffix", WRITE_FORMATS)
def test_tags_survive_whatever_they_hold(tmp_path: Path, suffix: str) -> None:
    for text in ("a\uffff\ufffe\ud800b", "a\0b", LATIN, "\x07"):
        path = write_audio(
            tmp_path / f"a{suffix}",
            np.zeros(4800, np.float32),
            tags={"title": text, "prompt": text, "generated": "true"},
        )
        assert read_tags(path)["prompt"] == text
        assert probe(path).tags["title"] == printable(text)


@pytest.mark.parametrize("suffix", WRITE_FORMATS)
@pytest.mark.parametrize("letters", ["ab c", "静", "🎹", '"\\\n\t'])
@pytest.mark.parametrize("length", [1900, 2000, 10_000])
def test_the_longest_prompts_are_read_back(tmp_path: Path, suffix: str, letters: str, length: int) -> None:
    prompt = (letters * length)[:length]
    tags = {"title": prompt[:200], "prompt": prompt, "seed": "7", "generated": "true"}
    path = write_audio(tmp_path / f"a{suffix}", np.zeros(4800, np.float32), tags=tags)
    read = read_tags(path)
    assert read["prompt"] == prompt and read["seed"] == "7" and read["title"] == prompt[:200]


@pytest.mark.parametrize("comment", ["7", "[1, 2]", "null", '"text"', "[" * 100_000, "{", "no JSON"])
def test_other_comments_are_not_ours(tmp_path: Path, comment: str) -> None:
    path = write_audio(tmp_path / "a.flac", np.zeros(4800, np.float32), tags={"comment": comment})
    assert read_tags(path) == {}


def test_tags_of_a_foreign_wav(tmp_path: Path) -> None:
    """Latin-1, as many programs write them."""
    path = write_audio(tmp_path / "a.wav", np.zeros(4800, np.float32), tags={"title": "12345"})
    path.write_bytes(path.read_bytes().replace(b"12345", b"caf\xe9s"))
    assert probe(path).tags["title"] == "cafés"


@pytest.mark.parametrize(
    ("prompt", "stored"),
    [
        ("größe 🎹", "größe 🎹"),
        (b"slow caf\xe9", "slow café"),
        ("slow \uffff", None),
        (b"\xed\xa0\x80 slow", "í\xa0€ slow"),
    ],
)
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_any_bytes_as_a_prompt(
    server: Server, bundle: Bundle, tmp_path: Path, prompt: str | bytes, stored: str | None, suffix: str
) -> None:
    name = f"a{suffix}"
    generate = ["generate", prompt, "--duration", "0.5", "-o", name, "--model", bundle.folder]
    ended = server.run(*generate, cwd=tmp_path)
    if stored is None:
        assert ended.code == 1 and b"holds U+FFFF" in ended.err and ended.err.count(b"\n") == 1
        assert list(tmp_path.iterdir()) == []
        return
    assert ended.code == 0, ended
    shown = server.run("inspect", name, cwd=tmp_path)
    assert shown.code == 0 and json.loads(shown.out)["prompt"] == stored


def test_half_a_character_as_a_prompt() -> None:
    with pytest.raises(ValueError, match=r"the prompt holds U\+D800"):
        check_prompt("slow \ud800")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_corpus_takes_names_that_are_no_text(tmp_path: Path, jobs: int) -> None:
    folder = tmp_path / os.fsdecode(b"m\xfcsic")
    (folder / LATIN).mkdir(parents=True)
    soundfile.write(os.fsencode(folder / f"{LATIN}.wav"), tone(300), 24000)
    soundfile.write(os.fsencode(folder / LATIN / "plain.wav"), tone(500), 24000)
    soundfile.write(os.fsencode(folder / r"caf\xe9.wav"), tone(800), 24000)
    (folder / f"{LATIN} broken.wav").write_text("no music")
    out = tmp_path / os.fsdecode(b"c\xf6rpus")
    for _ in range(2):  # the second time from the journal
        report = build_corpus([str(folder)], out, jobs=jobs, progress=False)
    assert report.num_decoded == 0 and report.num_tracks == 3
    tracks = load_manifest(out)
    assert sorted(track.origin for track in tracks) == [r"caf\xe9.wav", r"caf\xe9.wav'", r"caf\xe9/plain.wav"]
    assert [left["origin"] for left in load_skipped(out)] == [r"caf\xe9 broken.wav"]
    assert all(read_clip(out, track).std() > 0.1 for track in tracks)


def test_files_of_any_name_are_read_and_written(server: Server, bundle: Bundle, tmp_path: Path) -> None:
    soundfile.write(os.fsencode(tmp_path / f"{LATIN}.wav"), tone(300), 24000)
    model = ["--model", bundle.folder]
    ended = server.run("codec", "encode", f"{LATIN}.wav", *model, cwd=tmp_path)
    assert ended.code == 0 and ended.out.startswith(b"caf\xe9.codes: "), ended
    for suffix in WRITE_FORMATS:
        ended = server.run("codec", "decode", f"{LATIN}.codes", "-o", f"{LATIN} back{suffix}", *model, cwd=tmp_path)
        assert ended.code == 0, ended
        assert len(load(tmp_path / f"{LATIN} back{suffix}")) == 72000
    ended = server.run("codec", "encode", f"{LATIN} none.wav", *model, cwd=tmp_path)
    assert ended.code == 1 and ended.err.startswith(b"error: caf\xe9 none.wav: no such file")


def test_works_of_any_name_are_found(tmp_path: Path) -> None:
    import tarfile

    (tmp_path / f"{LATIN}.mid").write_bytes(b"MThd")
    with tarfile.open(tmp_path / "a.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / f"{LATIN}.mid", arcname=f"{LATIN}.mid")
    assert sorted(name for name, _ in list_files(tmp_path, lambda name: name.endswith(".mid"))) == [
        r"a.tar.xz/caf\xe9.mid", r"caf\xe9.mid",
    ]  # fmt: skip


def test_folders_of_any_name_hold_models_and_tokens(server: Server, bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / LATIN
    shutil.copytree(bundle.folder, folder / "bundle")
    generate = ["generate", "slow", "--duration", "0.5", "--model", folder / "bundle", "-o", folder / "a.wav"]
    assert server.run(*generate, cwd=tmp_path).code == 0 and len(load(folder / "a.wav")) == 12000
    made = ["bundle", "--runs", folder / "r", "--from", folder / "bundle", "--out", folder / "mine"]
    ended = server.run(*made, cwd=tmp_path)
    assert ended.code == 0, ended
    store = make_store(folder / "tokens", num_tracks=4, seconds=12)
    assert store.crops("train", 2.0, 2, 0, 0).codes["semantic"].shape == (2, 1, 50)
    array = {"a": np.arange(3), "b": np.ones((2, 2))}
    tensors.save(array, folder / f"{LATIN}.safetensors", {"x": "y"})
    with tensors.reader(folder / f"{LATIN}.safetensors", "np") as file:
        assert file.metadata() == {"x": "y"} and np.array_equal(file.get_tensor("a"), array["a"])
    assert tensors.load(folder / f"{LATIN}.safetensors")["b"].sum() == 4
