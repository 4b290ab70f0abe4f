"""`musiclm plan`."""

import json
from dataclasses import asdict
from typing import Annotated

import typer


def plan(
    stages: Annotated[list[str] | None, typer.Argument(metavar="STAGE...", help="Only these; all by default.")] = None,
    preset: Annotated[str, typer.Option(help="tiny, base, large or paper.")] = "paper",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting: semantic.train.batch_size=512 (repeatable).")
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="How many, one process each.")] = 1,
    gpu_memory: Annotated[float, typer.Option(min=1, help="Of each, GB.")] = 80.0,
    gpu_tflops: Annotated[float, typer.Option(min=1, help="Of each, dense bf16; an H100 has 989.")] = 989.0,
    utilisation: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of that which training reaches: an assumption.")
    ] = 0.35,
    as_json: Annotated[bool, typer.Option("--json", help="All figures, JSON.")] = False,
) -> None:
    """Say what training a preset takes: parameters, memory of a GPU, operations, days; and which options it needs."""
    from musiclm.core.streams import STAGES
    from musiclm.train.plan import GIGA, Machine
    from musiclm.train.plan import plan as make
    from musiclm.train.recipes import configure

    machine = Machine(gpus=gpus, memory_gb=gpu_memory, tflops=gpu_tflops, utilisation=utilisation)
    found = make(configure(preset, "all", settings or []), machine, tuple(stages or STAGES))
    if as_json:
        print(json.dumps({"machine": asdict(machine), "stages": [asdict(stage) for stage in found]}, indent=1))
        return
    print(
        f"{preset} on {gpus} GPU{'s' if gpus > 1 else ''} of {gpu_memory:g} GB and {gpu_tflops:g} "
        "TFLOP/s. Memory and operations are "
        f"counted on the networks without data; assumed: {utilisation:.0%} of the TFLOP/s is reached, "
        f"{machine.usable:.0%} of the memory can be used."
    )
    for stage in found:
        counted, parts = stage.counted, stage.memory_gb
        places = counted.places * stage.batch_size
        print(
            f"\n{stage.stage}: {counted.parameters / 1e6:.0f} M parameters; batch {stage.batch_size} x "
            f"{counted.audio_s:g} s = "
            f"{places / 1e3:.0f} k tokens and {counted.row_flop * stage.batch_size / 1e12:.3g} TFLOP a step\n"
            f"  a GPU: {sum(parts.values()):.1f} GB ("
            + ", ".join(f"{name} {value:.1f}" for name, value in parts.items())
            + f")\n  {stage.steps} steps of {stage.step_s:.3g} s: {stage.days:.3g} days"
            + (f"\n  needs: {stage.flags}" if stage.flags else "")
        )
        for warning in stage.warnings:
            print(f"  does not fit: {warning}")
    days = sum(stage.days for stage in found)
    hours = sum(stage.days * stage.gpus * 24 for stage in found)
    print(
        f"\nall: {days:.3g} days, {hours:.0f} GPU-hours "
        f"({sum(s.counted.parameters for s in found) / GIGA:.2f} G parameters)"
    )
