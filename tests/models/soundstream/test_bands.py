"""The bands network: what it resolves, the order of its codes, its phases, and that it learns."""

import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from musiclm.models.soundstream.bands import (
    POWER,
    BandsDecoder,
    BandsEncoder,
    LookaheadBlock,
    Moments,
    fit_linear_path,
)
from musiclm.models.soundstream.config import BASE_BANDS, HALF_TAPS, Band, SoundStreamConfig
from musiclm.models.soundstream.griffin_lim import MOMENTUM, BandsSynthesis, BandSynthesis, BandTail
from musiclm.models.soundstream.model import DecoderStream, SoundStream

BASE = SoundStreamConfig(network="bands", levels=48, latent_dim=768)
RATE = 24000


def sines(*hz: float, seconds: float = 2.4, amplitude: float = 0.2) -> torch.Tensor:
    t = torch.arange(round(seconds * RATE), dtype=torch.float64) / RATE
    return sum(amplitude * torch.sin(2 * torch.pi * f * t + f) for f in hz)[None, None].float()  # type: ignore[return-value]


def through_magnitudes(audio: torch.Tensor, config: SoundStreamConfig = BASE) -> torch.Tensor:
    """Audio made from the true magnitudes: nothing coded, only phases lost."""
    model = SoundStream(config)
    assert isinstance(model.phase, BandsSynthesis)
    return model.phase(model.magnitudes(audio))


def peaks_hz(audio: torch.Tensor, low: float, high: float, count: int) -> list[float]:
    """The strongest local maxima of the spectrum of the middle second."""
    middle = audio[0, 0, audio.shape[-1] // 2 - RATE // 2 :][:RATE].numpy() * np.hanning(RATE)
    size = np.abs(np.fft.rfft(middle, 4 * RATE))
    hz = np.arange(len(size)) / 4
    top = [i for i in range(1, len(size) - 1) if size[i - 1] < size[i] >= size[i + 1] and low < hz[i] < high]
    return sorted(hz[i] for i in sorted(top, key=lambda i: -size[i])[:count])


def test_6_kbps_in_48_codes_of_which_the_first_24_are_every_groups_first_level() -> None:
    assert BASE.samples_per_frame == 1920 and BASE.spec.frame_rate_hz == 12.5
    bits = BASE.levels * np.log2(BASE.codebook_size) * 12.5
    assert bits == 6000
    assert [slot.level for slot in BASE.slots] == [0] * 24 + [1] * 24
    assert [slot.band for slot in BASE.slots[:24]] == [0] * 4 + [1] * 8 + [2] * 12
    assert BASE.place_groups == [0, 1, 2, 3] + [4, 5, 6, 7] * 2 + [8, 9, 10] * 4


def test_bands_meet_and_reach_from_the_lowest_note_to_the_top() -> None:
    edges = [(band.low_hz, band.high_hz) for band in BASE_BANDS]
    assert edges[0][0] <= 27.5 and edges[-1][1] == RATE / 2
    for (_, high), (low, _) in zip(edges, edges[1:], strict=False):
        assert high == low
    pool = BASE_BANDS[2].pool(RATE)
    assert bool((pool.sum(1) == 1).all()) and bool((pool.sum(0) >= 1).all())


@pytest.mark.parametrize("hz", [(130.8, 146.8), (65.4, 98.0), (440.0, 493.9), (1000.0,), (5000.0,)])
def test_notes_of_a_chord_come_back_at_their_frequencies(hz: tuple[float, ...]) -> None:
    found = peaks_hz(through_magnitudes(sines(*hz)), min(hz) * 0.9, max(hz) * 1.1, len(hz))
    # pooled into bands of two per cent, a high partial comes back as a band of noise
    tolerance = 0.01 if max(hz) < 1900 else 0.03
    assert found == pytest.approx(list(hz), rel=tolerance)


def plain_block(band: BandSynthesis, squeezed: torch.Tensor, num: int) -> torch.Tensor:
    """`BandSynthesis.block` of a first block, its sums frame by frame."""
    magnitude = band.magnitude(squeezed)[0]
    phase = band.first_phases(magnitude[None], None)[0]
    n, hop, t = band.n_fft, band.hop, len(magnitude)

    def to_audio(spectra: torch.Tensor) -> torch.Tensor:
        total = torch.zeros((len(spectra) - 1) * hop + n)
        for frame in reversed(range(len(spectra))):
            full = torch.zeros(n // 2 + 1, dtype=torch.complex64)
            full[band.first : band.last] = spectra[frame]
            total[frame * hop : frame * hop + n] += torch.fft.irfft(full, n=n) * band.window
        return total

    def weight(count: int) -> torch.Tensor:
        total = torch.zeros((count - 1) * hop + n)
        for frame in range(count):
            total[frame * hop : frame * hop + n] += band.window.square()
        return total

    unit, previous = torch.polar(torch.ones_like(phase), phase), torch.zeros(t, 1)
    for _ in range(band.rounds):
        audio = to_audio(magnitude * unit) / weight(t).clamp(min=1e-3)
        frames = torch.stack([audio[frame * hop : frame * hop + n] * band.window for frame in range(t)])
        spectrum = torch.fft.rfft(frames)[:, band.first : band.last]
        moved = spectrum + MOMENTUM * (spectrum - previous)
        unit, previous = moved / (moved.abs().square() + 1e-18).sqrt(), spectrum
    return (to_audio(magnitude[:num] * unit[:num]) / weight(num).clamp(min=1e-3))[: num * hop]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_rounds_are_those_of_griffin_and_lim(number: int) -> None:
    """Beside sums frame by frame, for two rounds: errors of last bits grow with each."""
    model = SoundStream(BASE)
    assert isinstance(model.phase, BandsSynthesis)
    band = model.phase.bands[number]
    assert isinstance(band, BandSynthesis)
    band.rounds = 2
    magnitude = model.magnitudes(sines(100.0, 700.0, 3000.0))[number][:, 20:32].clamp(min=0.01)
    found = band.block(magnitude, 8, BandTail())
    torch.testing.assert_close(found[0], plain_block(band, magnitude, 8), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("number", [0, 1])
def test_samples_between_are_those_of_a_transposed_convolution(number: int) -> None:
    """Of what was before too."""
    band = SoundStream(BASE).phase.bands[number]  # type: ignore[union-attr, index]
    assert isinstance(band, BandSynthesis)
    slow, tail, dec = torch.randn(2, 90), BandTail(), band.decimation
    taps = band.taps.flip(0).flatten()[: 2 * HALF_TAPS * dec + 1]
    wanted = torch.nn.functional.conv_transpose1d(slow[:, None], taps[None, None], stride=dec)[:, 0, : 90 * dec]
    found = torch.cat([band.interpolate(part, tail) for part in slow.split((40, 30, 20), 1)], 1)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_levels_come_back() -> None:
    for hz in (100.0, 1000.0):
        audio = sines(hz)
        copy = through_magnitudes(audio)
        middle = slice(RATE // 2, -RATE // 2)
        assert float(copy[..., middle].std() / audio[..., middle].std()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("hz", [100.0, 300.0])
def test_a_tone_is_there_from_the_first_sample(hz: float) -> None:
    """Phases of the first spectrum are those of one sine in all bins around it, so they don't cancel one another."""
    copy = through_magnitudes(sines(hz))
    assert float(copy[..., :480].std()) > 0.93 * float(copy[..., RATE : RATE + 2400].std())


@pytest.mark.parametrize("ahead", [0, 1, 2, 4])
def test_the_skip_of_a_block_is_late_by_what_its_convolution_looks_ahead(ahead: int) -> None:
    torch.manual_seed(0)
    block = LookaheadBlock(4, 2, kernel=5, ahead=ahead, expansion=2, scale=0.0)
    x = torch.randn(2, 9, 2, 4)
    late = block(x)
    assert torch.equal(late[:, ahead:], x[:, : 9 - ahead]) and not late[:, :ahead].any()


def test_silence_stays_silence_and_nothing_sounds_before_or_after() -> None:
    assert float(through_magnitudes(torch.zeros(1, 1, 1920 * 10)).abs().max()) == 0
    audio = torch.zeros(1, 1, 1920 * 40)
    audio[..., 38400:57600] = torch.randn(19200, generator=torch.Generator().manual_seed(0)) * 0.2
    copy = through_magnitudes(audio)
    assert copy.shape == audio.shape
    far = 4096  # a window's length
    inside = float(copy[..., 38400:57600].square().mean())
    assert float(copy[..., : 38400 - far].square().mean()) < 1e-3 * inside
    assert float(copy[..., 57600 + far :].square().mean()) < 1e-3 * inside


def test_the_linear_path_alone_returns_what_its_components_hold() -> None:
    band = Band(n_fft=1920, hop=480, low_hz=20, high_hz=480, fold=2, groups=3, decimation=15)
    config = SoundStreamConfig(network="bands", bands=(band,), levels=6, group_dim=24, latent_dim=72)
    torch.manual_seed(0)
    encoder, decoder = BandsEncoder(config), BandsDecoder(config)
    for parameter in [*encoder.encoders.parameters(), *decoder.head.parameters()]:
        parameter.data.zero_()
    magnitude = torch.rand(4, 40, band.width(RATE))
    shares = fit_linear_path(encoder, decoder, [[magnitude]])
    assert shares == pytest.approx([1.0]), "as many components as magnitudes hold everything"
    latent = encoder.encode([magnitude])
    assert float(latent.detach().square().mean()) == pytest.approx(1, abs=0.15)
    torch.testing.assert_close(decoder(latent)[0], magnitude, atol=1e-4, rtol=0)


def test_a_code_of_a_group_tells_of_its_own_bins_alone() -> None:
    torch.manual_seed(0)
    model = SoundStream(BASE)
    spectra = model.magnitudes(sines(100.0, 700.0))
    changed = [part.clone() for part in spectra]
    changed[0][..., 60:] += 0.3  # the last of the low band's four groups
    encoder = model.encoder
    assert isinstance(encoder, BandsEncoder)
    for part in encoder.encoders:
        part.basis.normal_()
    before, after = (encoder.encode(part).unflatten(1, (24, 32)) for part in (spectra, changed))
    moved = (before - after).abs().amax((0, 2, 3)) > 0
    assert moved.tolist() == [False] * 3 + [True] + [False] * 20


def test_magnitudes_are_those_of_a_full_scale_sine() -> None:
    for number, hz in enumerate((200.0, 1000.0)):
        spectrum = SoundStream(BASE).magnitudes(sines(hz, amplitude=1.0))[number]
        assert float(spectrum[0, spectrum.shape[1] // 2].max()) == pytest.approx(1, abs=0.06)
        halved = SoundStream(BASE).magnitudes(sines(hz, amplitude=0.5))[number]
        assert float(halved[0, halved.shape[1] // 2].max()) == pytest.approx(0.5**POWER, abs=0.06)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": 12}, "levels must be 48"),
        ({"latent_dim": 96}, "latent_dim must be 768"),
        ({"bands": ()}, "at least one band"),
        ({"trunk_ahead": 7}, "trunk_ahead must lie in 0..6"),
    ],
)
def test_impossible_sizes_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SoundStreamConfig(**{"network": "bands", "levels": 48, "latent_dim": 768, **change})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="multiples of decimation 7"):
        Band(n_fft=4096, hop=480, low_hz=20, high_hz=480, fold=4, groups=4, decimation=7)


def test_a_checkpoint_keeps_no_moving_averages(tmp_path: Path) -> None:
    from musiclm.nn.rvq import training_state

    model = SoundStream(BASE)
    names = training_state(model)
    assert len(names) == 22 and set(names) <= set(model.state_dict())


def test_a_decoder_that_tells_every_bin_begins_with_what_it_told_of_bands() -> None:
    torch.manual_seed(0)
    model = SoundStream(BASE).eval()
    torch.nn.init.normal_(model.decoder.head.weight, std=0.02)
    codes = torch.randint(0, 1024, (1, 24, 20))
    latent = model.dequantize(codes)
    before = model.decoder(latent)
    model.tell_every_bin()
    after = model.decoder(latent)
    assert [part.shape[2] for part in after] == [band.num_bins(RATE) for band in BASE_BANDS]
    torch.testing.assert_close(after[:2], before[:2])
    torch.testing.assert_close(after[2], before[2] @ BASE_BANDS[2].pool(RATE).T)
    # what it learns towards is every bin, too, and codes are made of the pooled ones as ever
    audio = sines(300.0, 700.0, 5000.0, 5100.0)[..., : 1920 * 20]
    told = model.magnitudes(audio)
    assert [part.shape for part in told] == [part.shape for part in model.decoder(model.latents(audio))]
    pooled = told[2].pow(2 / POWER) @ (BASE_BANDS[2].pool(RATE) / BASE_BANDS[2].pool(RATE).sum(0))
    torch.testing.assert_close(pooled.pow(POWER / 2), SoundStream(BASE).magnitudes(audio)[2])
    # in pieces as whole
    stream, pieces = DecoderStream(model), [codes[..., :7], codes[..., 7:8], codes[..., 8:]]
    parts = [*(stream.push(piece) for piece in pieces), stream.flush()]
    assert torch.equal(torch.cat(parts, -1), model.decode(codes))


def test_two_partials_within_a_pooled_band_come_back_where_every_bin_is_told() -> None:
    """As 5000 and 5080 Hz, which one band of two per cent holds."""
    model = SoundStream(replace(BASE, every_bin=True))
    audio = sines(5000.0, 5080.0)
    assert isinstance(model.phase, BandsSynthesis)
    found = peaks_hz(model.phase(model.magnitudes(audio)), 4800, 5300, 2)
    assert found == pytest.approx([5000.0, 5080.0], abs=4)
    assert peaks_hz(through_magnitudes(audio), 4800, 5300, 2) != pytest.approx([5000.0, 5080.0], abs=4)


@pytest.mark.parametrize("every_bin", [False, True])
def test_calibration_gives_magnitudes_the_mean_and_spread_of_originals(every_bin: bool) -> None:
    torch.manual_seed(0)
    model = SoundStream(replace(BASE, every_bin=every_bin)).eval()
    decoder = model.decoder
    assert isinstance(decoder, BandsDecoder)
    for basis in decoder.bases:
        basis.inverse.normal_(std=0.1)
        basis.offset.normal_(std=0.05)
    torch.nn.init.normal_(decoder.head.weight, std=0.02)
    latent = torch.randn(2, 768, 12)
    with torch.no_grad():
        told = [part.clone() for part in decoder(latent)]
        true = [1.2 * (part - part.mean()) + 0.1 * torch.rand(part.shape[-1]) + 0.5 for part in told]
        factors = decoder.calibrate([(told, true)])
        after = decoder(latent)
    assert factors == pytest.approx([1.2, 1.2, 1.2], abs=1e-3)
    for own, wanted in zip(after, true, strict=True):
        torch.testing.assert_close(own, wanted, atol=2e-4, rtol=1e-3)


def test_calibration_stays_within_bounds() -> None:
    """Of a magnitude that is told as a constant no factor makes anything."""
    decoder = BandsDecoder(BASE).eval()
    with torch.no_grad():
        told = decoder(torch.zeros(1, 768, 6))
        assert decoder.calibrate([(told, [torch.rand_like(part) for part in told])]) == [2.0, 2.0, 2.0]


def test_moments_of_pieces_are_those_of_the_whole() -> None:
    rows = 1e-3 * torch.rand(100, 7) + 3
    moments = Moments()
    for piece in rows.split([1, 50, 9, 40]):
        moments.add(piece)
    torch.testing.assert_close(moments.mean, rows.double().mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(moments.var, rows.double().var(0), rtol=1e-9, atol=0)


def test_calibration_holds_a_piece_at_a_time() -> None:
    decoder = BandsDecoder(BASE).eval()
    held: list[weakref.ref[torch.Tensor]] = []

    def pieces() -> Iterator[tuple[list[torch.Tensor], list[torch.Tensor]]]:
        for _ in range(4):
            assert sum(one() is not None for one in held) <= 1
            told = [torch.rand(1, 2 * num, width) for num, width in zip(decoder.spectra, decoder.widths, strict=True)]
            held.append(weakref.ref(told[0]))
            yield told, [2 * part for part in told]

    assert decoder.calibrate(pieces()) == pytest.approx([2.0, 2.0, 2.0]) and len(held) == 4
