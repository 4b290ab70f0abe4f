"""`musiclm encoder add`."""

from pathlib import Path
from typing import Annotated

import typer

from musiclm.cli.options import Device, RunsDir, Threads, use_threads

app = typer.Typer(help="Encoders made by others, in the places of ours.", no_args_is_help=True)


@app.callback()
def _encoder() -> None:
    """Encoders made by others, in the places of ours."""


@app.command()
def add(
    kind: Annotated[
        str,
        typer.Argument(help="acoustic (EnCodec, DAC, Mimi), semantic (w2v-BERT 2.0, HuBERT, MERT, …) or joint (CLAP)."),
    ],
    model: Annotated[str, typer.Argument(help="A folder, or a Hugging Face id, also owner/name@revision.")],
    runs: RunsDir,
    data: Annotated[
        Path | None, typer.Option(help="A corpus, which codes of semantic and joint encoders are fitted on.")
    ] = None,
    levels: Annotated[
        int | None,
        typer.Option(
            min=1, help="Codes a frame: by default 8 of a codec, all of DAC. Of a joint encoder's quantizer, 12."
        ),
    ] = None,
    codebook_size: Annotated[
        int | None, typer.Option(min=2, max=32768, help="Codes of a semantic or joint encoder; 1024 by default.")
    ] = None,
    layer: Annotated[
        int | None, typer.Option(min=1, help="Of a semantic encoder, counted from 1; two thirds up by default.")
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Take an encoder made by others; `tokenize`, `train` and `bundle` then use it as if it were trained in RUNS."""
    from musiclm.generate.checks import check_device
    from musiclm.train.encoders import add_encoder

    check_device(device)
    use_threads(threads)
    place = add_encoder(
        kind, model, runs, data=data, levels=levels, codebook_size=codebook_size, layer=layer, device=device
    )
    print(f"{kind}: {place}")
