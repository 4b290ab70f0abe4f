"""Files of tensors (safetensors): written whole or not at all, read under any name, errors in a line."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file
from safetensors.torch import save_file as save_tensors
from torch import Tensor

from musiclm.core.output import replacing


def save(tensors: Mapping[str, Any], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes NumPy arrays or PyTorch tensors.

    Raises: OSError, in one line that names the file, if they can't be written.
    """
    write: Any = save_arrays if all(isinstance(value, np.ndarray) for value in tensors.values()) else save_tensors
    try:
        with replacing(path) as temporary, _utf8(temporary) as name:
            write(dict(tensors), name, metadata=None if metadata is None else dict(metadata))
            if name != temporary and not name.is_symlink():  # safetensors puts a file in the link's place
                shutil.copyfile(name, temporary)
    except (SafetensorError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"{path}: could not be written ({reason}); check free space and permissions") from error


def reader(path: Path, framework: str = "pt") -> Any:
    """An open file, of which tensors are read as they are asked for; "pt" for PyTorch's, "np" for NumPy's.

    Also a context.

    Raises: SafetensorError for a file that is none, OSError for one that can't be read.
    """
    with _utf8(path) as name:
        return safe_open(name, framework)


def load(path: Path) -> dict[str, Tensor]:
    """All tensors of a file. Raises: as `reader`."""
    with _utf8(path) as name:
        return load_file(name)


@contextlib.contextmanager
def _utf8(path: Path) -> Iterator[Path]:
    """The path, or a link to it if its name's bytes are no UTF-8, which safetensors refuses."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            link = Path(folder, "link")
            link.symlink_to(path.absolute())
            yield link
    else:
        yield path
