"""A bundle: the separately trained parts of one system in one folder, with an index that holds them together by hash.

    bundle.json     format, name, version, licence, parts: {"soundstream": {"folder": ..., "hash": ...}, ...}
    README.md       the model card
    soundstream/ w2vbert/ mulan/ melody/ semantic/ storm/ coarse/ fine/     artifacts, see musiclm.core.artifact

Language models know the hashes of the encoders whose tokens they learned; beside other encoders they are refused.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musiclm.core.artifact import (
    CONFIG_FILE,
    ArtifactError,
    check_files,
    check_replaceable,
    codes_hash,
    git_revision,
    read_config,
)
from musiclm.core.hub import CARD_FILE, download, is_id
from musiclm.core.output import replacing_folder
from musiclm.core.streams import MODELS, PARTS

FORMAT = 1
INDEX_FILE = "bundle.json"
BUNDLED = Path(__file__).parent.parent / "bundles"


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: where its parts lie and what the index says."""

    name: str
    folder: Path
    parts: dict[str, Path]  # part -> artifact folder
    hashes: dict[str, str]  # part -> hash of its weights
    document: dict[str, Any]

    @property
    def hash(self) -> str:
        """Twelve hex digits that name this set of weights."""
        joined = "".join(f"{part}={self.hashes[part]};" for part in sorted(self.hashes))
        return hashlib.sha256(joined.encode()).hexdigest()[:12]

    def part(self, name: str) -> Path:
        """The folder of a part. Raises ArtifactError if the bundle was made without it."""
        if name not in self.parts:
            raise ArtifactError(
                f"bundle {self.name!r} has no {name!r} model, only {', '.join(self.parts)}; "
                "choose another decoder or another bundle"
            )
        return self.parts[name]


def find_bundle(model: str) -> Path:
    """The folder of a bundle: a path, the name of one that ships with the package, or a Hugging Face id `owner/name`,
    with `@revision` for a branch, a tag or a commit.

    Raises: ArtifactError naming what was looked for.
    """
    path = Path(model)
    if path.is_dir():
        return path
    shipped = sorted(p.parent.name for p in BUNDLED.glob(f"*/{INDEX_FILE}"))
    if model in shipped:
        return BUNDLED / model
    if is_id(model):
        return download(model, ("*.json", "*.safetensors", "*.md"))
    names = ", ".join(shipped) or "none"
    raise ArtifactError(
        f"no model {model!r}: it is no folder here and none that ships with musiclm ({names}); a Hugging Face model is "
        "named owner/name or owner/name@revision"
    )


def open_bundle(model: str | Path) -> Bundle:
    """Opens and checks a bundle's index, configurations and encoder hashes; weights are checked when they are loaded.

    Raises: ArtifactError for a missing or damaged file, a part whose hash differs from the index, or a language model
    that learned from other encoders.
    """
    folder = find_bundle(str(model))
    path = folder / INDEX_FILE
    if not path.is_file():
        raise ArtifactError(f"{folder} is no bundle: it has no {INDEX_FILE}")
    try:
        document = json.loads(path.read_text())
        entries = {part: (entry["folder"], entry["hash"]) for part, entry in document["parts"].items()}
        version, name = document["format"], document["name"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is damaged ({type(error).__name__}: {error}); copy the bundle again") from None
    if version != FORMAT:
        raise ArtifactError(f"{path} has format {version}, this version of musiclm reads {FORMAT}")
    parts, hashes, codes = {}, {}, {}
    for part, (where, expected) in entries.items():
        if Path(where).is_absolute() or ".." in Path(where).parts:
            raise ArtifactError(f"{path} names the folder {where!r} outside the bundle; this is not allowed")
        config = read_config(folder / where)
        if config["hash"] != expected:
            raise ArtifactError(
                f"{folder / where} has weights {config['hash'][:12]}… where {INDEX_FILE} says {expected[:12]}…; "
                "the bundle is mixed up, copy it again"
            )
        parts[part], hashes[part], codes[part] = folder / where, expected, codes_hash(config)
    for part in parts:
        if part in MODELS:
            check_encoders(part, read_config(parts[part])["info"].get("encoders", {}), codes)
    return Bundle(name=name, folder=folder, parts=parts, hashes=hashes, document=document)


def whole_files(bundle: Bundle) -> dict[str, Path]:
    """Every file that a bundle consists of, by its path in it, whole as their hashes say; what else lies there is none.

    Raises: ArtifactError for a file that is missing or damaged.
    """
    files = {INDEX_FILE: bundle.folder / INDEX_FILE, CARD_FILE: bundle.folder / CARD_FILE}
    for folder in bundle.parts.values():
        files[f"{folder.relative_to(bundle.folder).as_posix()}/{CONFIG_FILE}"] = folder / CONFIG_FILE
        for name in check_files(folder):
            files[f"{folder.relative_to(bundle.folder).as_posix()}/{name}"] = folder / name
    if not files[CARD_FILE].is_file():
        raise ArtifactError(f"{bundle.folder} has no {CARD_FILE}; a bundle has a model card")
    return files


def check_encoders(part: str, learned: Mapping[str, str], present: Mapping[str, str]) -> None:
    """Raises ArtifactError if a language model learned from other codes than the encoders beside it give; both by
    `codes_hash`.
    """
    for encoder, wanted in learned.items():
        if encoder in present and present[encoder] != wanted:
            raise ArtifactError(
                f"the {part} model learned from a {encoder} with hash {wanted[:12]}…, but the {encoder} here has "
                f"{present[encoder][:12]}…; use the one it was trained with, train it again, or leave it out"
            )


def assemble(
    out: Path,
    artifacts: Mapping[str, Path],
    name: str,
    card: str,
    facts: Mapping[str, Any] | None = None,
    copy: Callable[[Path, Path], object] = shutil.copytree,
) -> Bundle:
    """Copies artifacts into a bundle folder, which appears under its name only when whole, and opens it.

    copy: makes the folder of a part of that of an artifact.

    Raises: ArtifactError for an unknown part, a damaged one or one that does not fit the others, and for an `out` that
    is there and no bundle, or holds one of the artifacts.
    """
    unknown = set(artifacts) - set(PARTS)
    if unknown:
        raise ArtifactError(f"unknown parts {', '.join(sorted(unknown))}; a bundle has {', '.join(PARTS)}")
    out = Path(out)
    check_replaceable(out, INDEX_FILE, "a bundle")
    for part, folder in artifacts.items():
        if out.resolve() in (folder.resolve(), *folder.resolve().parents):
            raise ArtifactError(
                f"{out} holds the {part} that would go into it, and would be replaced; choose another name"
            )
    with replacing_folder(out) as work:
        parts = {}
        for part in PARTS:
            if part in artifacts:
                check_files(artifacts[part])
                parts[part] = {"folder": part, "hash": read_config(artifacts[part])["hash"]}
                copy(artifacts[part], work / part)
        document = {"format": FORMAT, "name": name, "git_revision": git_revision(), **(facts or {}), "parts": parts}
        (work / INDEX_FILE).write_text(json.dumps(document, indent=1) + "\n")
        (work / CARD_FILE).write_text(card)
        open_bundle(work)
    return open_bundle(out)
