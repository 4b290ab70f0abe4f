from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

import pytest

from musiclm.core.config import from_json, override, to_json


@dataclass(frozen=True, kw_only=True)
class Inner:
    depth: int = 4
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Outer:
    width: int
    name: str = "x"
    limit: float | None = None
    inner: Inner = field(default_factory=Inner)


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Pair(Generic[T]):
    first: T
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Pairs:
    inner: Pair[Inner]
    outer: Pair[Outer] | None = None


def test_a_generic_dataclass_is_read_by_its_argument() -> None:
    config = Pairs(inner=Pair(first=Inner(depth=2)), outer=Pair(first=Outer(width=3), count=2))
    assert from_json(Pairs, to_json(config)) == config
    assert from_json(Pair[Inner], {"first": {"depth": 9}}) == Pair(first=Inner(depth=9))
    changed = override(config, ["inner.first.depth=7", "outer.first.inner.kind=b"])
    assert changed.inner.first.depth == 7 and changed.outer is not None and changed.outer.first.inner.kind == "b"
    with pytest.raises(ValueError, match="unknown setting 'inner.first.width'"):
        from_json(Pairs, {"inner": {"first": {"width": 3}}})
    with pytest.raises(ValueError, match="first is missing from the configuration of Pair"):
        from_json(Pair[Inner], {})


def test_round_trip() -> None:
    config = Outer(width=3, inner=Inner(kind="b", sizes=(5,)))
    assert from_json(Outer, to_json(config)) == config


def test_overrides() -> None:
    config = override(
        Outer(width=3), ["width=7", "inner.depth=6", "inner.rate=1", "name=hello", "limit=2.5", "inner.sizes=[9]"]
    )
    assert config == Outer(width=7, name="hello", limit=2.5, inner=Inner(depth=6, rate=1.0, sizes=(9,)))


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("inner.dept=6", "did you mean 'depth'"),
        ("iner.depth=6", "did you mean 'inner'"),
        ("width", "no '='"),
        ("width=wide", "width must be int, got 'wide'"),
        ("width=true", "width must be int"),
        ("inner.kind=c", "must be one of a, b"),
        ("inner.sizes=3", "must be a list"),
    ],
)
def test_what_is_wrong_is_said(assignment: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(Outer(width=3), [assignment])


def test_missing_and_unknown_keys() -> None:
    with pytest.raises(ValueError, match="width is missing"):
        from_json(Outer, {"name": "x"})
    with pytest.raises(ValueError, match="unknown setting 'inner.deth'; did you mean 'depth'"):
        from_json(Outer, {"width": 1, "inner": {"deth": 2}})
