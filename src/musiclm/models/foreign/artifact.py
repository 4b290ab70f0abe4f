"""What artifacts of foreign encoders share: a reference to a model of transformers, and what was fitted to it here."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from musiclm.core.artifact import Artifact, load_artifact, load_state, save_artifact
from musiclm.core.config import from_json, to_json
from musiclm.core.pretrained import open_source
from musiclm.nn.rvq import training_state

Config = TypeVar("Config")
PREFIX = "model."  # of the tensors that are the source's


class Foreign(nn.Module):
    """An encoder whose attribute `model` was made by others.

    `identity`, which is stored, is a hash of that model and of the configuration: by it the hash of the artifact's
    weights, to which stages are bound, names the codes.
    """

    model: Any
    identity: Tensor
    codes_hash: str = ""

    def __init__(self, config: Any, model: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.model = model.requires_grad_(False)
        document = to_json(config)
        document["source"] = document["source"]["hash"]  # wherever it lies
        digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).digest()
        self.register_buffer("identity", torch.tensor(list(digest), dtype=torch.uint8))

    @property
    def device(self) -> torch.device:
        return self.identity.device

    def save(self, folder: Path, kind: str, info: dict[str, Any]) -> str:
        """Writes an artifact that refers to the source. Returns its hash."""
        return save_artifact(folder, kind, self.config, self, info, skip=_not_stored(self))

    def restore(self, artifact: Artifact) -> None:
        """Takes what was fitted from an artifact, and its hash. Raises: ArtifactError."""
        load_state(self, artifact, _not_stored(self))
        self.codes_hash = artifact.codes_hash
        self.eval()


def read_foreign(folder: Path, kind: str, cls: type[Config]) -> tuple[Artifact, Config, Path]:
    """An artifact, its configuration and the folder of its source. Raises: ArtifactError."""
    artifact = load_artifact(folder, kind)
    config: Any = from_json(cls, artifact.config)
    return artifact, config, open_source(config.source, artifact.folder)


def _not_stored(module: nn.Module) -> Collection[str]:
    return {name for name in module.state_dict() if name.startswith(PREFIX)} | set(training_state(module))
