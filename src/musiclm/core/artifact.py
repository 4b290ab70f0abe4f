"""A trained model on disk: a folder with `config.json` and `model.safetensors`, checked by hash and never by pickle.

`config.json` says what the weights are without another file: kind, sizes, the hashes of the weights and of the sizes,
and `info` (data, licences, steps, metrics, the encoders a language model learned from, the git revision). A bundle
(`musiclm.core.bundle`) is an index over such folders. Sizes are compared with the weights before anything is built, so
that a wrong number is a message and not all of memory.
"""

import hashlib
import json
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from musiclm.core import tensors
from musiclm.core.config import from_json, to_json
from musiclm.core.output import replacing_folder
from musiclm.core.output import write_atomic as write_atomic
from musiclm.core.retired import retired_model

FORMAT = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INT8, ROW_PEAK = ".int8", ".peak"  # what a tensor stored in rows is called
SMALL = 2**14  # entries of a matrix that is stored as it is
LARGEST_SIZE = 2**20  # of any number in a configuration
REPEATED = ("layers", "blocks", "groups")  # sizes whose names end so are of parts with weights of their own

Model = TypeVar("Model", bound=nn.Module)
Config = TypeVar("Config")


class ArtifactError(ValueError):
    """A folder is not the trained model it should be."""


@dataclass(frozen=True)
class Artifact:
    """What `load_artifact` found."""

    kind: str
    config: dict[str, Any]
    state: dict[str, Tensor]
    info: dict[str, Any]
    hash: str  # sha256 of model.safetensors
    folder: Path

    @property
    def codes_hash(self) -> str:
        """See the function of that name."""
        return codes_hash({"info": self.info, "hash": self.hash})


def file_hash(path: Path) -> str:
    """sha256 of a file, as hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def git_revision() -> str:
    """The revision of the source tree this code runs from, or '' outside a checkout."""
    try:
        out = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
        return out.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def save_artifact(
    folder: Path,
    kind: str,
    config: Any,
    module: nn.Module,
    info: dict[str, Any],
    dtype: torch.dtype = torch.float32,
    files: Mapping[str, Path | bytes] | None = None,
    skip: Collection[str] = (),
    int8_rows: Collection[str] = (),
) -> str:
    """Writes a model folder under its name only when it is whole; an older model there is replaced.

    Returns the hash of the weights. Floating tensors are stored as `dtype`, those named in `int8_rows` as `in_rows`
    gives them; `files` are further files by name, each kept with its hash. Tensors named in `skip` are left out: what
    training needs and use does not. Raises: ArtifactError if the folder holds something else than a model.
    """
    check_replaceable(Path(folder), CONFIG_FILE, "a trained model")
    with replacing_folder(Path(folder)) as work:
        own = {name: value.detach().cpu() for name, value in module.state_dict().items() if name not in skip}
        state = {
            stored: (part.to(dtype) if part.is_floating_point() else part).contiguous()
            for name, value in own.items()
            for stored, part in (in_rows(name, value) if name in int8_rows else {name: value}).items()
        }
        tensors.save(state, work / WEIGHTS_FILE)
        digest = file_hash(work / WEIGHTS_FILE)
        hashes = {}
        for name, source in (files or {}).items():
            (work / name).write_bytes(source if isinstance(source, bytes) else Path(source).read_bytes())
            hashes[name] = file_hash(work / name)
        document = {
            "format": FORMAT,
            "kind": kind,
            "config": to_json(config),
            "config_hash": config_hash(to_json(config)),
            "hash": digest,
            "files": hashes,
            "info": {"git_revision": git_revision(), **info},
        }
        (work / CONFIG_FILE).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    return digest


def in_rows(name: str, value: Tensor) -> dict[str, Tensor]:
    """A tensor as rows of int8, along its last dimension, times the row's peak / 127: a quarter of float32."""
    peak = value.float().abs().amax(-1, keepdim=True).half().float().clamp(min=1e-6)
    rows = (value.float() / peak * 127).round().clamp(-127, 127).to(torch.int8)
    return {name + INT8: rows, name + ROW_PEAK: peak}


def out_of_rows(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Stored tensors as float32, with those that `in_rows` took apart made whole."""
    own = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    for stored in [name for name in own if name.endswith(INT8)]:
        name = stored.removesuffix(INT8)
        if name + ROW_PEAK in own:
            own[name] = own.pop(stored).float() * own.pop(name + ROW_PEAK) / 127
    return own


def large_matrices(module: nn.Module) -> list[str]:
    """Names of the parameters with two dimensions or more whose bytes count."""
    return [name for name, value in module.named_parameters() if value.ndim > 1 and value.numel() >= SMALL]


def config_hash(config: Mapping[str, Any]) -> str:
    """sha256 of a configuration, whatever the order of its names."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def check_replaceable(folder: Path, mark: str, what: str) -> None:
    """Raises: ArtifactError if a folder to be replaced is neither empty nor ours, as the file `mark` tells."""
    if folder.exists() and not (folder / mark).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ArtifactError(f"{folder} is there already and is not {what}; it is not replaced, choose another name")


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a model folder, without its weights. Raises ArtifactError when it is not one."""
    path = Path(folder) / CONFIG_FILE
    if not path.is_file():
        raise ArtifactError(f"{folder} is no trained model: it has no {CONFIG_FILE}")
    try:
        document = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} is not readable JSON ({error}); {_again(folder)}") from None
    missing = {"format", "kind", "config", "hash", "info"} - set(document)
    if missing:
        raise ArtifactError(f"{path} lacks {', '.join(sorted(missing))}; it was not written by musiclm")
    if document["format"] != FORMAT:
        raise ArtifactError(
            f"{path} has format {document['format']}, this version reads {FORMAT}; install the version of musiclm "
            "that wrote it"
        )
    # models written before there was such a hash have none
    if document.get("config_hash", config_hash(document["config"])) != config_hash(document["config"]):
        raise ArtifactError(f"the configuration in {path} was changed after it was written; copy the folder again")
    if retired := retired_model(document):
        raise ArtifactError(f"{folder} is {retired}")
    return document


def _again(folder: Path) -> str:
    return f"copy the folder again, or delete {folder} and make it again by the command that made it"


def codes_hash(document: Mapping[str, Any]) -> str:
    """Which codes an encoder gives, from its `config.json`: the hash of the first artifact that gave them.

    It is the artifact's own hash, unless it came of another by a change that leaves every code as it was (`musiclm
    train mulan-text`). Language models and token streams are bound to it.
    """
    return str(document["info"].get("codes_of", document["hash"]))


def load_artifact(folder: Path, kind: str) -> Artifact:
    """Reads a model folder; floating tensors come back as float32.

    Raises: ArtifactError when a file is missing, the hash is wrong, the kind is another, or the weights are not
    safetensors.
    """
    folder = Path(folder)
    document = read_config(folder)
    if document["kind"] != kind:
        raise ArtifactError(f"{folder} holds a {document['kind']!r} model where a {kind!r} model is wanted")
    check_files(folder)
    weights = folder / WEIGHTS_FILE
    try:
        state = tensors.load(weights)
    except SafetensorError as error:
        raise ArtifactError(f"{weights} is not a safetensors file ({error})") from None
    _check_sizes(folder, document["config"], len(state))
    return Artifact(
        kind=kind,
        config=document["config"],
        state=out_of_rows(state),
        info=document["info"],
        hash=document["hash"],
        folder=folder,
    )


def check_files(folder: Path) -> tuple[str, ...]:
    """Names of the files beside `config.json`, the weights first.

    Raises: ArtifactError if one is missing or damaged, or pickle.
    """
    document = read_config(folder)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        others = [p.name for p in folder.glob("*") if p.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")]
        hint = f" ({', '.join(others)} is pickle, which is never read; convert it to safetensors)" if others else ""
        raise ArtifactError(f"{folder} has no {WEIGHTS_FILE}{hint}")
    for name, expected in {WEIGHTS_FILE: document["hash"], **document.get("files", {})}.items():
        if not (folder / name).is_file():
            raise ArtifactError(f"{folder} has no {name}; the model is incomplete, {_again(folder)}")
        with open(folder / name, "rb") as file:
            head = file.read(9)
        # safetensors: 8 bytes of header length, which may well begin with pickle's 0x80, then a JSON object
        if name == WEIGHTS_FILE and head[8:] != b"{" and (head[:2] == b"PK" or head[:1] == b"\x80"):
            raise ArtifactError(f"{weights} is a pickle, which is never read; convert it to safetensors")
        actual = file_hash(folder / name)
        if actual != expected:
            raise ArtifactError(
                f"{folder / name} has hash {actual[:12]}… but its {CONFIG_FILE} says {expected[:12]}…; "
                f"the file is damaged or from another model, {_again(folder)}"
            )
    return (WEIGHTS_FILE, *document.get("files", {}))


def _check_sizes(folder: Path, config: Any, num_tensors: int) -> None:
    """Raises ArtifactError for numbers that no model of so many tensors has."""
    for name, value in _numbers(config):
        most = num_tensors if name.endswith(REPEATED) else LARGEST_SIZE
        if not -LARGEST_SIZE <= value <= most:
            raise ArtifactError(
                f"{folder / CONFIG_FILE} says {name} is {value}, which does not fit weights of {num_tensors} tensors; "
                "copy the folder again"
            )


def _numbers(config: Any, name: str = "") -> Iterator[tuple[str, int]]:
    """Every whole number of a configuration with its name."""
    if isinstance(config, dict):
        for key, value in config.items():
            yield from _numbers(value, str(key))
    elif isinstance(config, list):
        for value in config:
            yield from _numbers(value, name)
    elif isinstance(config, int):
        yield name, config


def build(
    make: Callable[[], Model], artifact: Artifact, skip: Callable[[nn.Module], Collection[str]] | None = None
) -> Model:
    """The model of an artifact with its weights, in evaluation mode; `make` builds it. skip: tensors that may be
    missing.

    It is built without memory first, and compared with the weights. Raises: ArtifactError if they do not fit.
    """
    try:
        with torch.device("meta"):
            empty = make()
    except RuntimeError as error:  # sizes that PyTorch can't even name
        raise ArtifactError(f"the configuration in {artifact.folder} can't be built ({error})") from None
    missing = skip(empty) if skip is not None else ()
    _check_fit(empty, artifact, missing)
    model = make()
    load_state(model, artifact, missing)
    return model.eval()


def load_model(
    folder: Path,
    kind: str,
    config_type: type[Config],
    make: Callable[[Config], Model],
    skip: Callable[[nn.Module], Collection[str]] | None = None,
) -> tuple[Model, Artifact]:
    """The model in a folder, as `build` gives it of `make` of its configuration, and its artifact.

    Raises: ArtifactError when the folder is not one.
    """
    artifact = load_artifact(folder, kind)
    config = from_json(config_type, artifact.config)
    return build(lambda: make(config), artifact, skip), artifact


def load_state(module: nn.Module, artifact: Artifact, skip: Collection[str] = ()) -> None:
    """Puts the weights of `artifact` into `module`; tensors named in `skip` may be missing and stay as they are.

    Raises ArtifactError naming what is missing, unexpected or of another shape.
    """
    _check_fit(module, artifact, skip)
    module.load_state_dict(artifact.state, strict=False)  # what may be missing was checked


def _check_fit(module: nn.Module, artifact: Artifact, skip: Collection[str]) -> None:
    own = module.state_dict()
    problems = [f"missing {name}" for name in own if name not in artifact.state and name not in skip]
    problems += [f"unexpected {name}" for name in artifact.state if name not in own]
    problems += [
        f"{name} is {tuple(value.shape)}, not {tuple(own[name].shape)}"
        for name, value in artifact.state.items()
        if name in own and own[name].shape != value.shape
    ]
    if problems:
        raise ArtifactError(
            f"the weights in {artifact.folder} do not fit their configuration: {'; '.join(problems[:3])}"
            + (f" and {len(problems) - 3} more" if len(problems) > 3 else "")
        )
