"""`musiclm codec encode`, `decode` and `roundtrip`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from musiclm.models.encoders import Codec

app = typer.Typer(help="The SoundStream codec on its own.", no_args_is_help=True)

Levels = Annotated[
    int | None, typer.Option(help="Codes a frame; all by default. Fewer are fewer bits: 48 are 6 kbps, 24 are 3.")
]
CodecModel = Annotated[str, typer.Option(help="A bundle, or a trained codec's folder.")]
CODES_SUFFIX = ".codes"


@app.command()
def encode(
    file: Annotated[Path, typer.Argument(help="Any audio file.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="By default FILE.codes, if none is there.")
    ] = None,
    levels: Levels = None,
    model: CodecModel = "base",
) -> None:
    """Turn audio into codes, in constant memory."""
    from musiclm.core.output import check_output
    from musiclm.data.codes import encode_file, save_codes

    target = check_output(
        output or file.with_suffix(CODES_SUFFIX), inputs=[file], new=output is None, option="another -o"
    )
    codec = _codec_of(model)
    encoded = encode_file(codec, file, levels)
    save_codes(target, encoded)
    bits = encoded.bits_per_second(codec.spec)
    print(f"{target}: {encoded.codes.shape[1]} frames, {encoded.codes.shape[0]} levels, {bits / 1000:.2f} kbit/s")


@app.command()
def decode(
    file: Annotated[Path, typer.Argument(help="What `codec encode` wrote.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="By default FILE.wav, if none is there.")
    ] = None,
    levels: Levels = None,
    model: CodecModel = "base",
) -> None:
    """Turn codes back into audio, in constant memory."""
    from musiclm.core.audio import check_writable, write_blocks
    from musiclm.data.codes import decode_blocks, load_codes

    target = output or file.with_suffix(".wav")
    check_writable(target, inputs=[file], new=output is None, option="another -o")
    codec = _codec_of(model)
    encoded = load_codes(file, codec, levels)
    write_blocks(target, decode_blocks(codec, encoded), codec.sample_rate_hz)
    print(f"{target}: {encoded.num_samples / codec.sample_rate_hz:.2f} s")


@app.command()
def roundtrip(
    file: Annotated[Path, typer.Argument(help="Any audio file.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The audio after the codec; by default roundtrip.wav, if none is there."),
    ] = None,
    levels: Levels = None,
    model: CodecModel = "base",
) -> None:
    """Encode and decode: what the codec does to a file."""
    from musiclm.core.audio import check_writable, write_blocks
    from musiclm.data.codes import decode_blocks, encode_file

    target = output or Path("roundtrip.wav")
    check_writable(target, inputs=[file], new=output is None, option="another -o")
    codec = _codec_of(model)
    started = time.perf_counter()
    encoded = encode_file(codec, file, levels)
    between = time.perf_counter()
    write_blocks(target, decode_blocks(codec, encoded), codec.sample_rate_hz)
    seconds = encoded.num_samples / codec.sample_rate_hz
    print(
        f"{target}: {seconds:.2f} s at {encoded.bits_per_second(codec.spec) / 1000:.2f} kbit/s, real-time factor "
        f"{(between - started) / seconds:.3f} encoding, {(time.perf_counter() - between) / seconds:.3f} decoding"
    )


def _codec_of(model: str) -> "Codec":
    from musiclm.core.bundle import INDEX_FILE, open_bundle
    from musiclm.models.encoders import load_codec

    folder = Path(model)
    if folder.is_dir() and not (folder / INDEX_FILE).exists():
        return load_codec(folder)
    return load_codec(open_bundle(model).part("soundstream"))
