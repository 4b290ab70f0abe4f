"""Sound on a device that is not there: what comes is played in order, gaps are counted, and what is missing is said."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from musiclm.core.audio import write_audio
from musiclm.core.speakers import DeviceError, Speakers, pcm16

RATE = 24000


class FakeDevice:
    """A sounddevice.OutputStream that asks for 10 ms at a time, as fast as it may, and keeps what it gets."""

    pace_s = 0.0005
    unplugged_after: int | None = None  # periods
    late: tuple[int, ...] = ()  # periods before which the device had to wait

    def __init__(
        self, samplerate: int, channels: int, dtype: str, callback: Any, finished_callback: Callable[[], None]
    ) -> None:
        assert (samplerate, channels, dtype) == (RATE, 1, "float32")
        self.callback, self.played, self.stopped = callback, [], threading.Event()
        self.finished = finished_callback
        self.thread = threading.Thread(target=self._run)
        self.latency = 0.01
        self.closed = False
        made.append(self)

    def start(self) -> None:
        self.thread.start()

    def _run(self) -> None:
        while not self.stopped.is_set() and len(self.played) != self.unplugged_after:
            out = np.full((RATE // 100, 1), np.nan, np.float32)
            status = SimpleNamespace(output_underflow=len(self.played) in self.late)
            self.callback(out, len(out), None, status)
            self.played.append(out[:, 0])
            time.sleep(self.pace_s)
        self.finished()

    def abort(self) -> None:
        self.stopped.set()
        if self.thread.is_alive():
            self.thread.join()

    def close(self) -> None:
        self.closed = True


made: list[FakeDevice] = []


class PortAudioError(Exception):
    pass


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeDevice]]:
    made.clear()
    fake = SimpleNamespace(OutputStream=FakeDevice, PortAudioError=PortAudioError)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    yield made
    for each in made:
        each.abort()


def test_what_is_written_is_played_in_order(device: list[FakeDevice]) -> None:
    blocks = [np.random.default_rng(i).uniform(-1, 1, 500 * (i + 1)).astype(np.float32) for i in range(8)]
    with Speakers(RATE, 0.1) as speakers:
        for block in blocks:
            speakers.write(block)
        speakers.drain()
    (played,) = device
    sound = np.concatenate(played.played)
    assert played.closed and np.isfinite(sound).all()
    gaps = speakers.missing_samples
    expected = np.concatenate(blocks)
    assert np.array_equal(sound[sound != 0][: len(expected)], expected), "in order, none left out"
    assert np.array_equal(sound[: len(expected)], expected) or gaps


def test_gaps_are_counted(device: list[FakeDevice]) -> None:
    with Speakers(RATE, 0.5) as speakers:
        assert not device[0].thread.is_alive(), "nothing runs before there is sound"
        for _ in range(3):
            speakers.write(np.ones(RATE // 50, np.float32))
            time.sleep(0.1)  # two periods of the device are played long before
        assert speakers.underruns == 3 and speakers.missing_samples > 0
        before = speakers.underruns
        speakers.drain()
        time.sleep(0.02)
        assert speakers.underruns == before, "the end is no gap"


def test_who_writes_is_held_back(device: list[FakeDevice], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeDevice, "pace_s", 0.01)
    with Speakers(RATE, 0.1) as speakers:
        for _ in range(10):
            speakers.write(np.ones(RATE // 20, np.float32))
            with speakers._room:
                assert speakers._num_ready <= 0.1 * RATE + RATE // 20
        assert speakers.underruns == 0


def test_a_device_that_stands_still_is_noticed(device: list[FakeDevice], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeDevice, "_run", lambda self: None)
    monkeypatch.setattr("musiclm.core.speakers.PATIENCE_S", 0.05)
    with Speakers(RATE, 0.1) as speakers:
        speakers.write(np.ones(RATE, np.float32))
        with pytest.raises(DeviceError, match="the sound device takes no more sound"):
            speakers.write(np.ones(RATE, np.float32))


@pytest.mark.parametrize("then", ["write", "drain"])
def test_a_device_that_goes_away_is_noticed_at_once(
    device: list[FakeDevice], monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    monkeypatch.setattr(FakeDevice, "unplugged_after", 3)
    begun = time.monotonic()
    with Speakers(RATE, 0.1) as speakers:
        speakers.write(np.ones(RATE, np.float32))
        with pytest.raises(DeviceError, match="takes no more sound; was it unplugged") as refused:
            speakers.write(np.ones(RATE, np.float32)) if then == "write" else speakers.drain()
    assert time.monotonic() - begun < 10 and device[0].closed and "\n" not in str(refused.value)


def test_a_device_that_is_served_late_is_an_underrun(device: list[FakeDevice], monkeypatch: pytest.MonkeyPatch) -> None:
    """By what PortAudio says: the samples were there, and came too late."""
    monkeypatch.setattr(FakeDevice, "late", (2, 5))
    with Speakers(RATE, 0.1) as speakers:
        speakers.write(np.ones(RATE // 5, np.float32))
        speakers.drain()
    assert speakers.underruns == 2 and speakers.missing_samples == 0


def test_a_device_that_another_program_has_is_said_in_a_line(
    device: list[FakeDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FakeDevice) -> None:
        raise PortAudioError("Device unavailable [PaErrorCode -9985]")

    monkeypatch.setattr(FakeDevice, "start", refuse)
    with (
        Speakers(RATE, 0.1) as speakers,
        pytest.raises(DeviceError, match="can't begin .Device unavailable .*using it"),
    ):
        speakers.write(np.ones(RATE, np.float32))
    assert device[0].closed


def test_what_is_missing_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(DeviceError, match="needs the library sounddevice; run: pip install 'musiclm"):
        Speakers(RATE, 0.1)

    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "sounddevice":
                raise self.error

        def __init__(self, error: Exception) -> None:
            self.error = error

    for error, message in (
        (OSError("PortAudio library not found"), r"needs PortAudio \(PortAudio library not found\); install it"),
        (PortAudioError("Error initializing PortAudio"), r"PortAudio can't begin \(Error initializing PortAudio\)"),
    ):
        with monkeypatch.context() as now:
            now.delitem(sys.modules, "sounddevice", raising=False)
            now.setattr(sys, "meta_path", [Broken(error), *sys.meta_path])
            with pytest.raises(DeviceError, match=message):
                Speakers(RATE, 0.1)

    def refuse(**_: object) -> None:
        raise PortAudioError("Error querying device -1")

    fake = SimpleNamespace(OutputStream=refuse, PortAudioError=PortAudioError)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    with pytest.raises(DeviceError, match="no sound device takes mono at 24000 Hz .Error querying device -1."):
        Speakers(RATE, 0.1)


def test_samples_are_those_of_files(tmp_path: Path) -> None:
    edges = [0, 1, -1, 2, -2, 0.5, 1e-5, -1e-5, 1 - 2**-20, -1 + 2**-20]
    sound = np.concatenate([np.array(edges, np.float32), np.random.default_rng(0).uniform(-1, 1, 20000)])
    write_audio(tmp_path / "a.wav", sound.astype(np.float32), RATE)
    kept = soundfile.read(tmp_path / "a.wav", dtype="int16")[0]
    assert np.array_equal(np.frombuffer(pcm16(sound.astype(np.float32)), "<i2"), kept)
