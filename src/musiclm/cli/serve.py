"""`musiclm serve`."""

from pathlib import Path
from typing import Annotated

import typer

from musiclm.cli.options import Device, Model, Threads, use_threads


def serve(
    host: Annotated[str, typer.Option(help="Address to listen at; any but this machine's own needs an API key.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen at; 0 takes one that is free.", min=0, max=65535)] = 8000,
    folder: Annotated[Path, typer.Option(help="Where takes and uploads are kept.")] = Path("musiclm-takes"),
    workers: Annotated[
        int | None,
        typer.Option(
            help="Pieces that are made at a time, each beyond the first by a process that is started when it is "
            "needed; by default 2, or 1 on one core, with --threads 1 or on a GPU.",
            min=1,
            max=64,
        ),
    ] = None,
    capacity: Annotated[
        int, typer.Option(help="Pieces that are made or wait; more are refused.", min=1, max=10000)
    ] = 8,
    max_duration: Annotated[float, typer.Option(help="Seconds of new music a request, at most.")] = 600.0,
    max_sound: Annotated[
        float, typer.Option(help="Seconds of an upload, and of what goes on from it.", min=1)
    ] = 1800.0,
    max_upload: Annotated[float, typer.Option(help="Megabytes of an upload, at most.", min=0.1, max=4000)] = 64.0,
    rate: Annotated[int, typer.Option(help="Requests a minute from one client that ask for work.", min=1)] = 240,
    max_takes: Annotated[
        int, typer.Option(help="Then the oldest that nobody keeps makes room.", min=1, max=1_000_000)
    ] = 1000,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="MUSICLM_API_KEY",
            help="That every request must bring. Better in the environment, since others see a command's options.",
        ),
    ] = None,
    model: Model = "base",
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Serve music over HTTP, and the studio: a page to make it in."""
    from musiclm.serve.settings import Settings, default_workers

    settings = Settings(
        folder=folder,
        host=host,
        port=port,
        api_key=api_key,
        workers=workers or default_workers(device, threads, capacity),
        capacity=capacity,
        max_duration_s=max_duration,
        max_sound_s=max_sound,
        max_upload_mb=max_upload,
        requests_per_minute=rate,
        max_takes=max_takes,
    )
    try:
        from musiclm.serve.run import run
    except ImportError as error:
        raise ImportError(f"{error.name} is not installed; pip install 'musiclm[serve]'") from None
    use_threads(threads)
    run(settings, model, device)
