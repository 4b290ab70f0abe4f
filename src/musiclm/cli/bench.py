"""`musiclm bench`."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from musiclm.cli.options import Device, check_threads, checked_by, grouped

if TYPE_CHECKING:
    from musiclm.bench.presets import PresetsConfig


@dataclass(frozen=True, kw_only=True)
class PresetOptions:
    """Which networks with random weights are measured in place of a bundle, and on what."""

    panel: ClassVar[str] = "Networks of a preset"

    preset: Annotated[
        list[str] | None,
        typer.Option(
            help="The networks of this preset with random weights instead: training and generation (repeatable)."
        ),
    ] = None
    minutes: Annotated[
        float, typer.Option(min=0.0, help="With --preset: what has not begun by then is not measured.")
    ] = 12.0
    gpu_tflops: Annotated[
        float | None,
        typer.Option(
            min=1, help="With --preset: of the device, dense bf16 (an H100: 989); else what a matrix product reaches."
        ),
    ] = None
    duration: Annotated[float, typer.Option(min=0.5, help="With --preset: seconds of music that are made.")] = 30.0
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="With --preset: pieces made at once; 1, 8 and 32 by default.")
    ] = None

    def config(self) -> "PresetsConfig":
        from musiclm.bench.presets import PresetsConfig

        return PresetsConfig(
            presets=tuple(self.preset or ()),
            minutes=self.minutes,
            tflops=self.gpu_tflops,
            duration_s=self.duration,
            batches=tuple(self.batch or PresetsConfig.batches),
        )


@grouped
def bench(
    model: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="A shipped bundle's name, a folder, or a hub id.")
    ] = "base",
    out: Annotated[Path | None, typer.Option(help="Write the figures there, JSON.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Short music, all threads, no training: about two minutes.")
    ] = False,
    peers: Annotated[
        bool,
        typer.Option("--peers", help="MusicGen, EnCodec, DAC and Mimi beside ours instead, random weights, in turn."),
    ] = False,
    loaded: Annotated[
        bool,
        typer.Option(
            "--loaded", help="How much slower generation gets beside a busy process instead, by how threads wait."
        ),
    ] = False,
    *,
    presets: PresetOptions,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="A.json B.json", help="Show two results by ratio instead.")
    ] = None,
    device: Device = "cpu",
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="This many threads only; by default one and all.", callback=checked_by(check_threads)),
    ] = None,
) -> None:
    """Time a bundle on this machine: generation, every stage, start-up, memory, training."""
    from musiclm.bench.compare import table
    from musiclm.bench.run import save
    from musiclm.core.output import check_output
    from musiclm.generate.checks import check_device

    if compare is not None:
        print("\n".join(table(*(json.loads(path.read_text()) for path in compare))))
        return
    kinds = {"--quick": quick, "--peers": peers, "--loaded": loaded, "--preset": bool(presets.preset)}
    if len(chosen := [name for name, given in kinds.items() if given]) > 1:
        raise ValueError(f"{' and '.join(chosen)} measure different things; give one of them")
    if not presets.preset:  # of presets, what is missing says why
        check_device(device)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        check_output(out, inputs=[model], option="another --out")
    result = _measured(chosen[0] if chosen else "", model, presets, device, threads)
    if out is not None:
        save(result, out)
    print(json.dumps(result["figures"], indent=1))


def _measured(kind: str, model: str, presets: PresetOptions, device: str, threads: int | None) -> dict[str, Any]:
    """kind: the option that says what is measured; "": the bundle in full."""
    from musiclm.bench.loaded import LoadedConfig
    from musiclm.bench.run import BenchConfig, bench_loaded, bench_peers, bench_presets
    from musiclm.bench.run import bench as measure

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    if kind == "--preset":
        return bench_presets(presets.config(), device, say)
    if kind == "--loaded":
        return bench_loaded(model, LoadedConfig() if threads is None else LoadedConfig(threads=threads), device, say)
    if kind == "--peers":
        return bench_peers(model, device, threads, say)
    config = BenchConfig.quick() if kind == "--quick" else BenchConfig()
    if threads is not None:
        config = replace(config, threads=(threads,))
    if config.left_out:
        say(f"quick: without {config.left_out}")
    return measure(model, config, device, say)
