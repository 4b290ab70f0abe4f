"""A soundfont of one looped sawtooth, packed by hand, for every program and drum kit: what rendering tests play."""

import struct
from pathlib import Path

import numpy as np

RATE_HZ = 24000
KITS = (0, 8, 16, 24, 25, 32, 40, 48)
PERIOD = 92  # samples: 260.9 Hz, close to middle C
_SAMPLE_MODES, _SAMPLE_ID, _INSTRUMENT, _RELEASE, _ROOT = 54, 53, 41, 38, 58


def write_soundfont(path: Path, loop: bool = True) -> Path:
    """One instrument with one sample at MIDI 60, a preset on it for each of 128 programs and 8 kits."""
    wave = np.tile(np.linspace(-0.5, 0.5, PERIOD, endpoint=False), 40)
    samples = (wave * 32767).astype("<i2")
    data = samples.tobytes() + bytes(2 * 46)
    presets = [(0, program) for program in range(128)] + [(128, kit) for kit in KITS]
    phdr = b"".join(
        struct.pack("<20sHHHIII", f"p{bank}-{program}".encode(), program, bank, index, 0, 0, 0)
        for index, (bank, program) in enumerate(presets)
    )
    num = len(presets)
    phdr += struct.pack("<20sHHHIII", b"EOP", 0, 0, num, 0, 0, 0)
    pbag = b"".join(struct.pack("<HH", index, 0) for index in range(num + 1))
    pgen = struct.pack("<HH", _INSTRUMENT, 0) * num + struct.pack("<HH", 0, 0)
    inst = struct.pack("<20sH", b"saw", 0) + struct.pack("<20sH", b"EOI", 1)
    generators = [(_RELEASE, -7973 & 0xFFFF), (_SAMPLE_MODES, int(loop)), (_ROOT, 60), (_SAMPLE_ID, 0)]
    igen = b"".join(struct.pack("<HH", *pair) for pair in generators) + struct.pack("<HH", 0, 0)
    ibag = struct.pack("<HHHH", 0, 0, len(generators), 0)
    end = len(samples)
    shdr = struct.pack("<20sIIIIIBbHH", b"saw", 0, end, PERIOD * 4, PERIOD * 36, RATE_HZ, 60, 0, 0, 1)
    shdr += struct.pack("<20sIIIIIBbHH", b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0)
    mod = bytes(10)
    info = _list(
        b"INFO", _chunk(b"ifil", struct.pack("<HH", 2, 1)) + _chunk(b"isng", b"EMU8000\0") + _chunk(b"INAM", b"saw\0")
    )
    pdta = [
        (b"phdr", phdr), (b"pbag", pbag), (b"pmod", mod), (b"pgen", pgen), (b"inst", inst), (b"ibag", ibag),
        (b"imod", mod), (b"igen", igen), (b"shdr", shdr),
    ]  # fmt: skip
    body = info + _list(b"sdta", _chunk(b"smpl", data)) + _list(b"pdta", b"".join(_chunk(*pair) for pair in pdta))
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body) + 4) + b"sfbk" + body)
    return path


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def _list(name: bytes, data: bytes) -> bytes:
    return _chunk(b"LIST", name + data)
