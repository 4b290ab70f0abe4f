"""`musiclm push`."""

from pathlib import Path
from typing import Annotated

import typer

from musiclm.cli.options import checked_by


def _check_name(name: str) -> None:
    from musiclm.core.hub import parse_id

    parse_id(name)


def push(
    folder: Annotated[Path, typer.Argument(help="A bundle (musiclm bundle).")],
    name: Annotated[
        str,
        typer.Argument(help="owner/name on the hub, or owner/name@branch.", callback=checked_by(_check_name)),
    ],
    licence: Annotated[
        str | None, typer.Option(help="Of the weights, by the hub's name; by default 'other', as the card says.")
    ] = None,
    private: Annotated[bool, typer.Option(help="If the repository is new: only for those you let in.")] = False,
    message: Annotated[str | None, typer.Option(help="Of the commit.")] = None,
) -> None:
    """Put a bundle on the Hugging Face hub, as one commit; interrupted, the same command goes on."""
    from musiclm.core.bundle import INDEX_FILE, open_bundle, whole_files
    from musiclm.core.hub import CARD_FILE, parse_id, push
    from musiclm.train.card import hub_card

    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give that of a bundle")
    bundle = open_bundle(folder)
    card = hub_card(bundle, licence)
    files: dict[str, Path | bytes] = {**whole_files(bundle), CARD_FILE: card.encode()}
    left = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).as_posix() not in files
    )
    if left:
        print(f"left out, for the bundle does not name them: {', '.join(left)}")
    title = message or f"{bundle.name} ({bundle.hash})"
    done = push(files, name, mark=INDEX_FILE, message=title, private=private)
    print(f"{parse_id(name).repo}@{done.commit}: {len(files)} files, {done.num_new} of them new")
