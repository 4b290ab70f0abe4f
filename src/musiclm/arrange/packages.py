"""Packages of the extra `corpus`, imported when they are needed."""

import importlib
from typing import Any


def need(name: str) -> Any:
    """The module. Raises: ImportError, in one line that says what to install, if it is not here."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        raise ImportError(f'the package {package} is not here; pip install "musiclm[corpus]"') from error
