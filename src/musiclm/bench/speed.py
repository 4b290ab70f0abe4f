"""How fast a bundle makes music: whole and by stage, by duration, batch and precision; how it starts; how much memory
it takes.

A real-time factor is seconds of work per second of music: below 1 is faster than real time. Every figure is a median
over repeats after a warm-up; music longer than LONG_S is made once, after shorter music has warmed everything up.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musiclm.bench.measure import precision_context, timed
from musiclm.core.streams import MULAN
from musiclm.core.workers import Worker
from musiclm.generate.autoregressive import ArAcoustic, collect, decode, stream_semantic
from musiclm.generate.config import GenerateConfig, item_generator
from musiclm.generate.makers import New, new_maker
from musiclm.generate.session import MusicLM
from musiclm.models.lm.model import TokenLM
from musiclm.nn.sampling import Sampling, uniforms

PROMPT = "a fast arcade theme with electric guitar and drums"
LONG_S = 30.0


def generation(model: MusicLM, durations_s: Sequence[float], repeats: int, device: str) -> dict[str, Any]:
    """Real-time factor and time to the first sound of the bundle's default decoder, by duration."""
    found: dict[str, Any] = {}
    for duration_s in sorted(durations_s):
        long = duration_s > LONG_S
        seconds = timed(
            lambda d=duration_s: model.generate(PROMPT, d),  # type: ignore[misc]
            1 if long else repeats,
            device,
            warm_up=not long,
        )
        found[f"{duration_s:g}_s"] = {"real_time_factor": seconds / duration_s}
    first_sound(model)
    found["first_sound_s"] = statistics.median(first_sound(model) for _ in range(repeats))
    return found


def first_sound(model: MusicLM, duration_s: float = 10.0) -> float:
    """Seconds until a stream of `duration_s` gives its first block."""
    started = time.perf_counter()
    next(iter(model.stream(PROMPT, duration_s)))
    return time.perf_counter() - started


def autoregressive(model: MusicLM, duration_s: float, device: str) -> dict[str, float]:
    """Real-time factor with the coarse and fine stages as decoder, one run; {} for a bundle without them."""
    if not {"coarse", "fine"} <= set(model.bundle.parts):
        return {}
    config = model.default_config("ar")
    model.acoustic_decoder(config)
    return {
        "real_time_factor": timed(lambda: model.generate(PROMPT, duration_s, config=config), 1, device) / duration_s
    }


def batches(model: MusicLM, sizes: Sequence[int], duration_s: float, repeats: int, device: str) -> dict[str, Any]:
    """Several prompts in one call: real-time factor of an item, and seconds of music made in a second."""
    found = {}
    for size in sizes:
        prompts = [PROMPT] * size
        seconds = timed(lambda prompts=prompts: model.generate(prompts, duration_s), repeats, device)  # type: ignore[misc]
        factor = seconds / (duration_s * size)
        found[str(size)] = {"real_time_factor": factor, "music_s_per_s": 1 / factor, "all_done_s": seconds}
    return found


def side_by_side(model: MusicLM, num: int, duration_s: float, repeats: int) -> dict[str, float]:
    """Seconds for one piece, and for `num` at once by as many processes that have started; how many times longer."""
    piece = New(PROMPT, duration_s, 0, model.default_config())
    others = [new_maker(model) for _ in range(num - 1)]

    def here() -> None:
        for _ in piece.made_by(model, lambda *_: None, None):
            pass

    def there(maker: Worker) -> None:
        for _ in piece.made_in(maker, lambda *_: None, None):
            pass

    def at_once() -> None:
        with ThreadPoolExecutor(num) as pool:
            waiting = [pool.submit(there, maker) for maker in others]
            here()
            for one in waiting:
                one.result()

    try:
        at_once()  # all have started
        one_s, all_s = timed(here, repeats), timed(at_once, repeats)
    finally:
        for maker in others:
            maker.stop()
    return {"one_s": one_s, "all_s": all_s, "times_longer": all_s / one_s}


def stages(model: MusicLM, repeats: int, device: str, seconds: float, precision: str = "fp32") -> dict[str, float]:
    """Each part of the chain alone, on `seconds` of music; the coarse and fine stages on one window of theirs.

    The text tower always runs in float32: its look-up among audio vectors mixes types under autocast.
    """
    config = model.default_config()
    frames = round(seconds * (model.semantic.layout.target_spec.frame_rate_hz or 0))
    mulan = model.text_codes(PROMPT)
    text_s = timed(lambda: model.text_codes(PROMPT), repeats, device)

    def semantic() -> Tensor:
        generators = [item_generator(0, "semantic")]
        pieces = stream_semantic(model.semantic, mulan, frames, config.semantic, generators, lean=model.lean)
        return torch.cat(list(pieces), 2)

    def acoustic() -> Tensor:
        generators = [item_generator(0, config.acoustic)]
        return model.acoustic_decoder(config).generate(codes, mulan, generators)

    with precision_context(precision, device):
        codes = semantic()
        made = acoustic()
        kept = made[:, : config.levels]
        audio = model.soundstream.decode(kept)
        took = {
            "semantic": timed(semantic, repeats, device),
            config.acoustic: timed(acoustic, repeats, device),
            "codec_decode": timed(lambda: model.soundstream.decode(kept), repeats, device),
            "codec_encode": timed(lambda: model.soundstream.encode(audio), repeats, device),
        }
        windows = _window_rates(model, {MULAN.name: mulan, "semantic": codes, "acoustic": made}, device)
    tokens = {"semantic": codes[0].numel(), config.acoustic: made[0].numel()}
    return {
        "text_s": text_s,
        **{f"{name}_tokens_per_s": num / took[name] for name, num in tokens.items()},
        **windows,
        **{f"{name}_real_time_factor": taken / seconds for name, taken in took.items()},
    }


def _window_rates(model: MusicLM, streams: dict[str, Tensor], device: str) -> dict[str, float]:
    """Tokens a second of the coarse and the fine stage on one window, once each after a warm-up; {} without them."""
    if not {"coarse", "fine"} <= set(model.bundle.parts):
        return {}
    decoder = model.acoustic_decoder(GenerateConfig(acoustic="ar"))
    assert isinstance(decoder, ArAcoustic) and decoder.fine is not None
    found = {}
    for name, lm in (("coarse", decoder.coarse), ("fine", decoder.fine)):
        layout = lm.layout
        frames = min(layout.crop_frames(), streams["acoustic"].shape[2])
        cut = {part.stream: _beginning(streams[part.stream], part.stream, frames, layout) for part in layout.parts[:-1]}
        num = frames * layout.target_spec.levels

        def window(lm: TokenLM = lm, cut: dict[str, Tensor] = cut, frames: int = frames, num: int = num) -> None:
            u = uniforms([item_generator(0, "ar")], num, lm.embedding.weight.device)
            collect(decode(lm, cut, frames, Sampling(), u), lm.layout.target_spec.levels, lambda: None)

        found[f"{name}_tokens_per_s"] = num / timed(window, 1, device)
    return found


def _beginning(codes: Tensor, stream: str, frames: int, layout: Any) -> Tensor:
    """What a condition holds of the first `frames` target frames."""
    if stream == MULAN.name:
        return codes
    spec = next(spec for spec in layout.specs if spec.name == stream)
    return codes[:, :, : round(frames * (spec.frame_rate_hz or 0) / layout.target_spec.frame_rate_hz)]


def start_up(bundle: Path, repeats: int, device: str, threads: int, duration_s: float = 5.0) -> dict[str, float]:
    """Import, load, the first sound and the peak memory of loading of a process that has just begun, medians over
    `repeats` of them.
    """
    runs = [in_fresh_process(bundle, duration_s, device, threads) for _ in range(repeats)]
    names = ("import_s", "load_s", "first_sound_s", "loaded_memory_mb")
    return {name: statistics.median(run[name] for run in runs) for name in names}


def memory(bundle: Path, durations_s: Sequence[float], device: str, threads: int, whole: bool) -> dict[str, Any]:
    """Peak memory by duration, streamed, each in a process of its own; and, if `whole`, of the longest kept whole.

    On CUDA also the most that was allocated on the device.
    """
    modes = [(duration_s, "stream") for duration_s in sorted(durations_s)]
    if whole:
        modes.append((max(durations_s), "generate"))
    found: dict[str, Any] = {}
    for duration_s, mode in modes:
        figures = in_fresh_process(bundle, duration_s, device, threads, mode)
        kept = {f"{mode}_{name}": figures[name] for name in ("memory_mb", "device_memory_mb") if name in figures}
        found.setdefault(f"{duration_s:g}_s", {}).update(kept)
    return found


def in_fresh_process(
    bundle: Path,
    duration_s: float,
    device: str,
    threads: int,
    mode: str = "stream",
    environment: dict[str, str] | None = None,
) -> dict[str, float]:
    """What `musiclm.bench.fresh` prints. environment: of the process, if not that of this one.

    Raises: RuntimeError with the last line of its errors if it fails.
    """
    command = [sys.executable, "-W", "ignore", "-m", "musiclm.bench.fresh"]
    arguments = [str(bundle), str(duration_s), device, str(threads), mode]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"a fresh process failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return json.loads(done.stdout)
