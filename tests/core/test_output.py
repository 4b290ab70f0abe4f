"""What commands write: whole, with the umask's mode, in place where it must be, and never over what was not meant."""

import json
import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musiclm.core.artifact import ArtifactError, save_artifact
from musiclm.core.audio import AudioError, write_audio, write_blocks
from musiclm.core.bundle import Bundle, assemble
from musiclm.core.output import OutputError, check_output, replacing, replacing_folder, write_atomic
from musiclm.data.corpus import CorpusError, build_corpus, load_manifest
from musiclm.data.corpus.merge import merge_corpora
from tests.forked import Ended, Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as started:
        yield started


@pytest.fixture
def song(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "song.wav", 0.3 * np.sin(np.arange(24000) / 20), 24000)
    return tmp_path / "song.wav"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refused(ended: Ended, *words: str) -> bool:
    text = ended.err.decode()
    return ended.code == 1 and text.count("\n") == 1 and all(word in text for word in words)


# commands


def test_decoding_does_not_replace_the_original(server: Server, bundle: Bundle, song: Path, tmp_path: Path) -> None:
    before = song.read_bytes()
    model = ["--model", bundle.folder]
    assert server.run("codec", "encode", "song.wav", *model, cwd=tmp_path).code == 0
    assert refused(server.run("codec", "decode", "song.codes", *model, cwd=tmp_path), "song.wav", "there already", "-o")
    assert refused(server.run("codec", "encode", "song.wav", *model, cwd=tmp_path), "song.codes: is there already")
    assert song.read_bytes() == before
    assert server.run("codec", "decode", "song.codes", "-o", "song.wav", *model, cwd=tmp_path).code == 0, "it was named"
    assert song.read_bytes() != before
    song.unlink()
    assert server.run("codec", "decode", "song.codes", *model, cwd=tmp_path).code == 0
    assert song.exists()


@pytest.mark.parametrize("link", ["", "symbolic", "hard"])
def test_an_input_is_no_output(server: Server, bundle: Bundle, song: Path, tmp_path: Path, link: str) -> None:
    before, name = song.read_bytes(), "song.wav"
    if link:
        name = "other.wav"
        (os.symlink if link == "symbolic" else os.link)(song, tmp_path / name)
    for command in ("encode", "roundtrip"):
        ended = server.run("codec", command, "song.wav", "-o", name, "--model", bundle.folder, cwd=tmp_path)
        assert refused(ended, f"{name}: is the file that is read"), ended
    assert song.read_bytes() == before


def test_default_and_numbered_names_are_free_ones(server: Server, bundle: Bundle, tmp_path: Path) -> None:
    for name in ("music.wav", "roundtrip.wav", "a-2.wav"):
        (tmp_path / name).write_text("mine")
    generate = ["generate", "slow", "--duration", "0.5", "--model", bundle.folder]
    assert refused(server.run(*generate, cwd=tmp_path), "music.wav: is there already")
    assert refused(server.run(*generate, "--num", "2", "-o", "a.wav", cwd=tmp_path), "a-2.wav: is there already")
    assert refused(server.run("codec", "roundtrip", "music.wav", cwd=tmp_path), "roundtrip.wav: is there already")
    assert all(path.read_text() == "mine" for path in tmp_path.iterdir()) and len(list(tmp_path.iterdir())) == 3
    assert server.run(*generate, "-o", "music.wav", cwd=tmp_path).code == 0, "it was named"
    assert (tmp_path / "music.wav").read_bytes()[:4] == b"RIFF"


def test_a_write_protected_file_stays(server: Server, bundle: Bundle, song: Path, tmp_path: Path) -> None:
    """For root too, whom the system would let."""
    (tmp_path / "kept.wav").write_text("mine")
    (tmp_path / "kept.wav").chmod(0o444)
    model = ["--model", bundle.folder]
    for arguments in (["codec", "roundtrip", "song.wav"], ["generate", "slow", "--duration", "0.5"]):
        ended = server.run(*arguments, "-o", "kept.wav", *model, cwd=tmp_path)
        assert refused(ended, "kept.wav: is write-protected"), ended
    assert refused(server.run("codec", "encode", "song.wav", "-o", "kept.wav", *model, cwd=tmp_path), "write-protected")
    assert (tmp_path / "kept.wav").read_text() == "mine"


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_modes_are_the_umasks(server: Server, bundle: Bundle, song: Path, tmp_path: Path, umask: int) -> None:
    model = ["--model", bundle.folder]
    assert server.run("codec", "encode", "song.wav", *model, cwd=tmp_path, umask=umask).code == 0
    assert server.run("codec", "decode", "song.codes", "-o", "a.flac", *model, cwd=tmp_path, umask=umask).code == 0
    assert [mode(tmp_path / name) for name in ("song.codes", "a.flac")] == [0o666 & ~umask] * 2


def test_a_device_is_written_into(server: Server, bundle: Bundle, song: Path, tmp_path: Path) -> None:
    """/dev/full of our own: a full device is an error, and stays a device."""
    device = tmp_path / "full"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 7))
        device.write_bytes(b"")
    except PermissionError:
        pytest.skip("only root makes devices")
    ended = server.run("codec", "encode", "song.wav", "-o", "full", "--model", bundle.folder, cwd=tmp_path)
    assert refused(ended, "No space left"), ended
    assert stat.S_ISCHR(device.stat().st_mode)


def test_a_pipe_is_written_into(server: Server, bundle: Bundle, song: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe.wav").read_bytes()), daemon=True)
    reader.start()
    model = ["--model", bundle.folder]
    assert server.run("codec", "roundtrip", "song.wav", "-o", "pipe.wav", *model, cwd=tmp_path).code == 0
    reader.join(30)
    assert server.run("codec", "roundtrip", "song.wav", "-o", "file.wav", *model, cwd=tmp_path).code == 0
    assert got == [(tmp_path / "file.wav").read_bytes()]
    assert stat.S_ISFIFO((tmp_path / "pipe.wav").stat().st_mode)


# files


def test_links_lead_to_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text("old")
    (tmp_path / "real" / "a.txt").chmod(0o640)
    (tmp_path / "link.txt").symlink_to("real/a.txt")
    (tmp_path / "dangling.txt").symlink_to("real/b.txt")
    for name in ("link.txt", "dangling.txt"):
        check_output(tmp_path / name)
        write_atomic(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink() and (tmp_path / name).read_text() == "new"
    assert (tmp_path / "real" / "a.txt").read_text() == "new" and mode(tmp_path / "real" / "a.txt") == 0o640
    with pytest.raises(OutputError, match="there already"):
        check_output(tmp_path / "link.txt", new=True)
    (tmp_path / "nowhere.txt").symlink_to("none/b.txt")
    with pytest.raises(OutputError, match="none does not exist"):
        check_output(tmp_path / "nowhere.txt")


def test_names_of_any_length_and_bytes(tmp_path: Path) -> None:
    for name in (b"a" * 255, b"caf\xe9.txt"):
        path = tmp_path / os.fsdecode(name)
        write_atomic(path, "new")
        assert path.read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 2


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()
    with pytest.raises(RuntimeError), replacing_folder(tmp_path / "folder") as work:
        (work / "new").touch()
        raise RuntimeError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "folder"]
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["old"]


def test_what_the_music_fails_of_is_not_the_disk(tmp_path: Path) -> None:
    def blocks() -> Iterator[np.ndarray]:
        yield np.zeros((1, 100), np.float32)
        raise RuntimeError("the model is broken")

    for suffix in (".wav", ".mp3"):
        with pytest.raises(RuntimeError, match="the model is broken"):
            write_blocks(tmp_path / f"a{suffix}", blocks())
    assert list(tmp_path.iterdir()) == []


# folders


def test_a_bundle_replaces_bundles_only(bundle: Bundle, tmp_path: Path) -> None:
    mine = tmp_path / "music"
    mine.mkdir()
    (mine / "song.wav").write_text("mine")
    with pytest.raises(ArtifactError, match="not a bundle; it is not replaced"):
        assemble(mine, bundle.parts, "x", "")
    assert (mine / "song.wav").read_text() == "mine"
    copy = Path(shutil.copytree(bundle.folder, tmp_path / "copy"))
    for out in (copy, copy / "mulan"):
        with pytest.raises(ArtifactError, match="choose another name"):
            assemble(out, {part: copy / part for part in bundle.parts}, "x", "")
    assert assemble(copy, bundle.parts, "new", "").name == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "music"]


def test_a_model_replaces_models_only(tmp_path: Path) -> None:
    import torch

    from tests.core.test_artifact import Config

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "song.wav").write_text("mine")
    with pytest.raises(ArtifactError, match="not a trained model"):
        save_artifact(tmp_path / "mine", "thing", Config(), torch.nn.Linear(1, 1), {})
    assert (tmp_path / "mine" / "song.wav").read_text() == "mine"


def music(folder: Path, hz: float) -> Path:
    time_s = np.arange(24000 * 4) / 24000
    envelope = 0.6 + 0.4 * np.sin(2 * np.pi * time_s / (1 + hz / 300))
    folder.mkdir(parents=True, exist_ok=True)
    return write_audio(folder / f"{hz:.0f}.wav", 0.3 * envelope * np.sin(2 * np.pi * hz * time_s))


def test_a_corpus_is_not_built_over_another(tmp_path: Path) -> None:
    music(tmp_path / "one", 300)
    music(tmp_path / "two", 800)
    for name in ("one", "two"):
        build_corpus([str(tmp_path / name)], tmp_path / f"{name}-corpus", jobs=1, progress=False)
    corpora = [tmp_path / "one-corpus", tmp_path / "two-corpus"]
    merge_corpora(corpora, tmp_path / "both")
    before = (tmp_path / "both" / "manifest.jsonl").read_bytes()
    with pytest.raises(CorpusError, match="`musiclm corpus build` did not make"):
        build_corpus([str(tmp_path / "one")], tmp_path / "both", jobs=1, progress=False)
    assert (tmp_path / "both" / "manifest.jsonl").read_bytes() == before
    music(tmp_path / "three", 500)
    build_corpus([str(tmp_path / "three")], tmp_path / "three-corpus", jobs=1, progress=False)
    with pytest.raises(CorpusError, match="built or rendered there"):
        merge_corpora(corpora, tmp_path / "three-corpus")
    with pytest.raises(CorpusError, match="one of the sources"):
        build_corpus([str(tmp_path / "one")], tmp_path / "one", jobs=1, progress=False)


def test_a_build_leaves_other_files_alone_and_does_not_read_itself(tmp_path: Path) -> None:
    music(tmp_path / "one", 300)
    (tmp_path / "one" / "corpus" / "audio" / ".git").mkdir(parents=True)
    (tmp_path / "one" / "corpus" / "audio" / ".git" / "config").write_text("mine")
    (tmp_path / "one" / "corpus" / "audio" / ".123-0123456789ab.flac").touch()  # of a build that was killed
    for _ in range(2):
        build_corpus([str(tmp_path / "one")], tmp_path / "one" / "corpus", jobs=1, progress=False)
        assert [track.origin for track in load_manifest(tmp_path / "one" / "corpus")] == ["300.wav"]
        assert (tmp_path / "one" / "corpus" / "skipped.jsonl").read_text() == ""
    assert (tmp_path / "one" / "corpus" / "audio" / ".git" / "config").read_text() == "mine"
    assert not (tmp_path / "one" / "corpus" / "audio" / ".123-0123456789ab.flac").exists()


def test_rendering_removes_nothing_but_its_own(tmp_path: Path) -> None:
    from musiclm.arrange.corpus.build import _drop_others

    ours, others = ["0123456789abcdef.flac", ".77-0123456789abcdef.flac"], ["song.flac", "live.mid", ".hidden"]
    for folder in ("audio", "scores", "midi"):
        (tmp_path / folder).mkdir()
        for name in (*ours, *others, "fedcba9876543210.flac"):
            (tmp_path / folder / name).touch()
    _drop_others(tmp_path, {"fedcba9876543210"})
    for folder in ("audio", "scores", "midi"):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == sorted([*others, "fedcba9876543210.flac"])


def test_audio_over_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").mkdir()
    with pytest.raises(AudioError, match="is a folder"):
        write_audio(tmp_path / "a.wav", np.zeros(10, np.float32))


def test_training_does_not_replace_a_model_it_can_not_go_on_from(
    server: Server, bundle: Bundle, tmp_path: Path
) -> None:
    shutil.copytree(bundle.part("storm"), tmp_path / "r" / "storm" / "artifact")
    before = (tmp_path / "r" / "storm" / "artifact" / "config.json").read_bytes()
    ended = server.run("train", "storm", "--preset", "tiny", "--data", "d", "--runs", "r", cwd=tmp_path)
    assert refused(ended, "no checkpoint to go on from"), ended
    assert (tmp_path / "r" / "storm" / "artifact" / "config.json").read_bytes() == before


def test_a_report_or_a_cache_is_not_written_over_something_else(tmp_path: Path, bundle: Bundle) -> None:
    from musiclm.evaluate.match import _known
    from musiclm.evaluate.run import Study

    (tmp_path / "report.json").write_text("mine")
    with pytest.raises(ValueError, match=r"report\.json is there already"):
        Study(bundle.folder, tmp_path)
    with pytest.raises(ValueError, match="no analyses of clips"):
        _known(tmp_path / "report.json")
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert _known(tmp_path / "none.json") == {}


def test_no_file_of_a_folder_that_is_read_is_written_over(server: Server, bundle: Bundle, tmp_path: Path) -> None:
    """A new name in it is one's own."""
    copy = shutil.copytree(bundle.folder, tmp_path / "copy")
    index, before = copy / "bundle.json", (copy / "bundle.json").read_bytes()
    (tmp_path / "link").symlink_to(copy)
    for name in (index, tmp_path / "link" / "bundle.json"):
        with pytest.raises(OutputError, match="would be written over"):
            check_output(name, inputs=[copy])
    assert check_output(copy / "mine.json", inputs=[copy]) == copy / "mine.json"
    ended = server.run("bench", str(copy), "--quick", "--out", str(index), cwd=tmp_path)
    assert ended.code == 1 and b"would be written over" in ended.err
    ended = server.run("match", str(copy), "--data", "none", "--out", str(index), cwd=tmp_path)
    assert ended.code == 1 and b"would be written over" in ended.err
    assert index.read_bytes() == before


def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def left_by(process: int, path: Path) -> Path:
    """What a process would have left of a file or folder in the making."""
    with replacing(path) as temporary:
        return temporary.with_name(temporary.name.replace(f".{os.getpid()}-", f".{process}-"))


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    gone, alive = left_by(dead(), tmp_path / "a.txt"), left_by(os.getppid(), tmp_path / "a.txt")
    other = left_by(dead(), tmp_path / "b.txt")
    for path in (gone, alive, other):
        path.write_text("half")
    write_atomic(tmp_path / "a.txt", "new")
    assert not gone.exists() and (tmp_path / "a.txt").read_text() == "new"
    assert alive.exists(), "another process may be writing the same"
    assert other.exists(), "who writes b.txt next removes it"


def test_a_folder_that_was_being_replaced_is_put_back(tmp_path: Path) -> None:
    """Killed between two renamings, a process leaves the old folder and the new one, both under other names."""
    folder = tmp_path / "model"
    new = left_by(dead(), folder)
    old = new.with_name(f"{new.name}.old")
    for path, text in ((new, "new"), (old, "old")):
        path.mkdir()
        (path / "weights").write_text(text)
    folder.unlink()
    with pytest.raises(RuntimeError), replacing_folder(folder):
        assert (folder / "weights").read_text() == "old"
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["model"] and (folder / "weights").read_text() == "old"


def test_a_finished_stage_is_swept_too(bundle: Bundle, tmp_path: Path) -> None:
    """Killed when the last artifact was in its place and the one before not yet removed."""
    from musiclm.train.pipeline import train_stage
    from musiclm.train.recipes import load_preset

    folder = tmp_path / "storm" / "artifact"
    folder.parent.mkdir()
    left = left_by(dead(), folder)
    folder.unlink()
    shutil.copytree(bundle.part("storm"), folder)
    config = json.loads((folder / "config.json").read_text())
    config["info"]["step"] = 10**9
    (folder / "config.json").write_text(json.dumps(config))
    old = left.with_name(f"{left.name}.old")
    old.mkdir()
    assert train_stage("storm", load_preset("tiny"), tmp_path, tmp_path) == folder
    assert [path.name for path in folder.parent.iterdir()] == ["artifact"]
    folder.rename(old)
    assert train_stage("storm", load_preset("tiny"), tmp_path, tmp_path) == folder, "put back"
