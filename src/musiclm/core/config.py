"""Configs are frozen dataclasses; this module turns them into JSON and back and applies `--set a.b=value` overrides."""

import dataclasses
import difflib
import json
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")


def to_json(config: Any) -> dict[str, Any]:
    """A dataclass as plain JSON types, nested dataclasses as objects, tuples as lists."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_json(cls: type[T], data: Any, where: str = "") -> T:
    """Builds `cls`, a dataclass or a generic one with its argument (`Recipe[LmTaskConfig]`), from what `to_json` wrote.

    Raises: ValueError for an unknown key (naming the nearest known one), a missing key or a value of the wrong type.
    """
    return _from_json(cls, data, where)


def _from_json(hint: Any, data: Any, where: str) -> Any:
    """`from_json` of anything that describes a dataclass; a generic one with its argument is no type."""
    plain: Any = typing.get_origin(hint) or hint
    if not isinstance(data, dict):
        raise ValueError(f"{where or plain.__name__} must be an object, got {data!r}")
    arguments = dict(zip(getattr(plain, "__parameters__", ()), typing.get_args(hint), strict=True))
    hints = {name: arguments.get(own, own) for name, own in typing.get_type_hints(plain).items()}
    fields = {field.name: field for field in dataclasses.fields(plain)}
    for key in data:
        if key not in fields:
            raise ValueError(_unknown(where + key, key, fields))
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _convert(hints[name], data[name], where + name)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where}{name} is missing from the configuration of {plain.__name__}")
    return plain(**values)


def check_shares(config: Any, *names: str) -> None:
    """Raises ValueError naming the first of a config's fields that is neither None nor in [0, 1]."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}; it must be in [0, 1]")


def override(config: T, assignments: list[str]) -> T:
    """A copy of `config` with each `dotted.name=value` applied; the value is JSON, or a bare word for a string.

    A "-" in a name is read as "_", so that a stage may be written as `musiclm train` has it.

    Raises: ValueError for an unknown name, a missing `=` or a value of the wrong type.
    """
    data = to_json(config)
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator:
            raise ValueError(f"--set {assignment!r} has no '='; write it as name=value")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        *parents, leaf = name.strip().replace("-", "_").split(".")
        node = data
        for depth, part in enumerate(parents):
            if part not in node or not isinstance(node[part], dict):
                raise ValueError(_unknown(".".join(parents[: depth + 1]), part, node))
            node = node[part]
        if leaf not in node:
            raise ValueError(_unknown(name, leaf, node))
        node[leaf] = value
    return from_json(type(config), data)


def _unknown(full: str, key: str, known: Any) -> str:
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.0)
    return f"unknown setting {full!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _fits(hint: Any, value: Any) -> bool:
    """Whether the names in `value`, nested ones too, are fields of the dataclass `hint`, one of several."""
    plain: Any = typing.get_origin(hint) or hint
    if not dataclasses.is_dataclass(plain) or not isinstance(value, dict):
        return not dataclasses.is_dataclass(plain)
    arguments = dict(zip(getattr(plain, "__parameters__", ()), typing.get_args(hint), strict=True))
    hints = {name: arguments.get(own, own) for name, own in typing.get_type_hints(plain).items()}
    return all(key in hints and (not isinstance(part, dict) or _fits(hints[key], part)) for key, part in value.items())


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        others = [argument for argument in arguments if argument is not type(None)]
        return _convert(next((other for other in others if _fits(other, value)), others[0]), value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise ValueError(f"{where} must be one of {', '.join(map(str, arguments))}, got {value!r}")
        return value
    if dataclasses.is_dataclass(origin or hint):
        return _from_json(hint, value, where + ".")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} must be a list, got {value!r}")
        inner = [arguments[0]] * len(value) if len(arguments) == 2 and arguments[1] is Ellipsis else arguments
        if len(inner) != len(value):
            raise ValueError(f"{where} must have {len(inner)} entries, got {len(value)}")
        return tuple(_convert(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(inner, value, strict=True)))
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be an object, got {value!r}")
        return {key: _convert(arguments[1], v, f"{where}.{key}") for key, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        raise ValueError(f"{where} must be {hint.__name__}, got {value!r}")
    return value
