"""Models made by others, of the library transformers, by folder or hub id: safetensors only; no code of theirs runs.

An artifact that uses one holds a `PretrainedSource`: the name, the hub's commit and a hash of all files that matter.
The files are read from there each time and compared with the hash, or from the artifact itself if it has taken them in
(`take_in`), in its folder `source/`.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from musiclm.core.artifact import CONFIG_FILE, ArtifactError, config_hash, file_hash, read_config
from musiclm.core.hub import download, is_id, parse_id
from musiclm.core.output import replacing_folder

SOURCE_FOLDER = "source"
# what a model and its feature extractor or tokenizer are made of; pickle is not among it
FILES = (
    *("config.json", "preprocessor_config.json", "processor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"),
)


@dataclass(frozen=True, kw_only=True)
class PretrainedSource:
    """Where a model made by others lies, and what it is by hash."""

    name: str  # a folder, or owner/name on the hub
    revision: str | None = None  # the hub's commit
    hash: str  # of its files


def find_folder(name: str | Path) -> Path:
    """The folder of a model by folder or hub id, `owner/name` or `owner/name@revision`.

    Raises: ArtifactError if it is not there.
    """
    if Path(name).is_dir():
        return Path(name)
    if not is_id(str(name)):
        raise ArtifactError(f"no model {str(name)!r}: it is no folder here; a Hugging Face model is named owner/name")
    return download(str(name), FILES)


def find_source(name: str) -> tuple[PretrainedSource, Path]:
    """A model by folder or hub id, and the folder that its files lie in.

    Raises: ArtifactError if it is not there or has no safetensors.
    """
    folder = find_folder(name)
    if Path(name).is_dir():
        return PretrainedSource(name=str(folder.resolve()), hash=_hash(folder)), folder
    return PretrainedSource(name=parse_id(name).repo, revision=folder.name, hash=_hash(folder)), folder


def open_source(source: PretrainedSource, artifact: Path) -> Path:
    """The folder with the files of the source of an artifact. Raises: ArtifactError if they are gone or others."""
    folder = artifact / SOURCE_FOLDER
    if not folder.is_dir():
        folder = Path(source.name)
        if source.revision is not None:
            folder = download(f"{source.name}@{source.revision}", FILES)
        elif not folder.is_dir():
            raise ArtifactError(
                f"{artifact} refers to the model in {source.name}, which is not there; put it back, or add it again"
            )
    found = _hash(folder)
    if found != source.hash:
        raise ArtifactError(
            f"{artifact} was made with the model {source.name} of hash {source.hash[:12]}…, but it has {found[:12]}… "
            "now; put the old one back, or add the new one and train again what learned from it"
        )
    return folder


def take_in(artifact: Path, target: Path) -> None:
    """Copies an artifact that refers to a source, with the source's files in it; its codes are the same.

    Raises: as `open_source`.
    """
    document = read_config(artifact)
    source = PretrainedSource(**document["config"]["source"])
    folder = open_source(source, artifact)
    named = source if source.revision else replace(source, name=Path(source.name).name)  # no path of this machine
    with replacing_folder(target) as work:
        shutil.copytree(artifact, work, dirs_exist_ok=True)
        (work / SOURCE_FOLDER).mkdir(exist_ok=True)
        for path in _files(folder):
            if not (work / SOURCE_FOLDER / path.name).exists():
                shutil.copyfile(path, work / SOURCE_FOLDER / path.name)
            document.setdefault("files", {})[f"{SOURCE_FOLDER}/{path.name}"] = file_hash(path)
        document["config"]["source"] = {"name": named.name, "revision": named.revision, "hash": named.hash}
        document["config_hash"] = config_hash(document["config"])
        (work / CONFIG_FILE).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def _files(folder: Path) -> list[Path]:
    found = sorted({path for pattern in FILES for path in folder.glob(pattern) if path.is_file()})
    names = {path.name for path in found}
    if "config.json" not in names:
        raise ArtifactError(f"{folder} is no model of transformers: it has no config.json")
    if not any(name.endswith(".safetensors") for name in names):
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        hint = f" ({pickled[0]} is pickle, which is never read; convert it to safetensors)" if pickled else ""
        raise ArtifactError(f"{folder} has no weights in safetensors{hint}")
    return found


def _hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in _files(folder):
        digest.update(f"{path.name} {file_hash(path)}\n".encode())
    return digest.hexdigest()


def model_type(folder: str | Path) -> str:
    """What a model calls its architecture. Raises: ArtifactError if its configuration can't be read."""
    return str(loading(folder, lambda library: library.PretrainedConfig.get_config_dict(str(folder))[0])["model_type"])


def load_pretrained(folder: Path, what: str = "the model") -> Any:
    """A model, in eval mode and float32. Raises: ArtifactError in a line that says why it can't be loaded."""

    def build(library: Any) -> nn.Module:
        settings, _ = library.PretrainedConfig.get_config_dict(str(folder))
        if settings.get("model_type") == "mert_model":  # HuBERT's layers under a name that transformers does not know
            others = [key for key in ("feature_extractor_cqt", "deepnorm") if settings.get(key)]
            if others or float(settings.get("attention_relax", -1)) > 0:
                unlike = ", ".join(others) or "attention_relax"
                raise ValueError(f"a MERT with {unlike}, which HuBERT's network does not have")
            config = library.HubertConfig.from_dict(settings)
            load, options = library.HubertModel.from_pretrained, {"config": config}
        else:
            load, options = library.AutoModel.from_pretrained, {}
        model, report = load(str(folder), use_safetensors=True, output_loading_info=True, **options)
        # what only masks inputs in pretraining is missing in some published models
        lost = sorted(key for key in report["missing_keys"] if "masked_spec_embed" not in key)
        if lost:
            raise ValueError(f"its weights lack {lost[0]}" + (f" and {len(lost) - 1} more" if lost[1:] else ""))
        found: nn.Module = model.float().eval()
        return found

    return loading(folder, build, what)


def loading(name: str | Path, load: Callable[[Any], Any], what: str = "the model") -> Any:
    """What `load` makes of a model with the library transformers.

    Raises: ArtifactError in a line for all that fails.
    """
    try:
        import transformers
    except ImportError:
        raise ArtifactError(f"{what} {name} needs transformers; install musiclm[encoders]") from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        return load(transformers)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, AttributeError) as error:
        reason = re.split(r"\. ", " ".join(str(error).split()))[0]
        raise ArtifactError(f"{what} {name} can't be loaded ({reason})") from None
