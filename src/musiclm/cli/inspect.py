"""`musiclm inspect`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from musiclm.cli.codec import CODES_SUFFIX


def inspect(
    path: Annotated[
        Path,
        typer.Argument(
            help="A bundle (shipped: by name, of the hub: by id), model, token store, codes, take or generated file."
        ),
    ],
) -> None:
    """Print what a file or folder says of itself."""
    from musiclm.core.artifact import CONFIG_FILE, ArtifactError, read_config
    from musiclm.core.bundle import BUNDLED, INDEX_FILE, find_bundle, open_bundle
    from musiclm.core.hub import is_id
    from musiclm.generate.music import read_tags
    from musiclm.generate.take import SUFFIX, describe_take

    if not path.exists() and len(path.parts) == 1 and (BUNDLED / path / INDEX_FILE).exists():
        path = BUNDLED / path
    if not path.exists() and is_id(str(path)):
        path = find_bundle(str(path))
    if not path.exists():
        raise ArtifactError(f"{path} does not exist")
    if (path / INDEX_FILE).exists():
        bundle = open_bundle(path)
        print(json.dumps({**bundle.document, "hash": bundle.hash}, indent=1))
    elif (path / CONFIG_FILE).exists():
        print(json.dumps(read_config(path), indent=1))
    elif headers := sorted(path.glob("*/header.json")):
        print(json.dumps({header.parent.name: json.loads(header.read_text()) for header in headers}, indent=1))
    elif path.suffix == CODES_SUFFIX:
        from musiclm.data.codes import describe_codes

        print(json.dumps(describe_codes(path), indent=1))
    elif path.suffix == SUFFIX:
        print(json.dumps(describe_take(path), indent=1))
    elif path.is_file():
        print(json.dumps(read_tags(path) or {"generated": "not by musiclm, as far as the file says"}, indent=1))
    else:
        raise ArtifactError(f"{path} is no bundle, model, token store, codes, take or audio file")
