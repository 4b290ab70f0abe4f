"""A device that isn't there: tensors that say they lie on it, refuse to meet CPU tensors as a GPU's do, and compute on
the CPU. There is no float64 on it, as on Apple's GPUs.

What runs on it puts every tensor where it belongs, which is most of what can be wrong with `--device cuda` where no GPU
is at hand. The kernels, bf16 and speed of a GPU are not tested.
"""

from typing import Any, ClassVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

AWAY = torch.device("lazy:0")
aten = torch.ops.aten
WIDE = (torch.float64, torch.complex128)
# what a GPU does with tensors of the CPU too: copies, and looking things up by their indices
# what waits until a device has computed: numbers for the CPU, and sizes that depend on them
WAITS = {aten._local_scalar_dense, aten.is_nonzero, aten.equal, aten.nonzero, aten.masked_select, aten.unique_dim}
MIXED = {aten.copy_, aten.index, aten.index_put_, aten.index_put, aten._index_put_impl_}


class Away(torch.Tensor):
    """A tensor on the device that isn't there; `inner` has the values."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Away":
        away: Away = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=AWAY,
        )
        away.inner = inner
        return away

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.inner.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"a tensor of {AWAY} has no NumPy array; copy it to the CPU first")

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Away({tuple(self.shape)}, {self.dtype})"


class AwayDevice(TorchDispatchMode):
    """While it is entered, `AWAY` is a device. `waits`: what was asked of it since that could not be answered before it
    had computed."""

    waits: ClassVar[list[str]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


def _compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    if func.overloadpacket is aten._has_compatible_shallow_copy_type:
        return False  # Module.to asks; a parameter that moves is made anew
    leaves, shape = tree_flatten((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    away = any(isinstance(tensor, Away) for tensor in tensors)
    device = kwargs.get("device")
    target = away if device is None else torch.device(device).type == AWAY.type
    if func.overloadpacket is aten.copy_:
        target = isinstance(args[0], Away)
    if away and func.overloadpacket not in MIXED:
        strangers = [tensor for tensor in tensors if not isinstance(tensor, Away) and tensor.ndim]
        if strangers:
            raise RuntimeError(f"{func}: a tensor of the CPU, {tuple(strangers[0].shape)}, meets tensors of {AWAY}")
    if (
        away
        and func.overloadpacket in MIXED
        and not isinstance(args[0], Away)
        and func.overloadpacket is not aten.copy_
    ):
        raise RuntimeError(f"{func}: a tensor of the CPU indexed by tensors of {AWAY}")
    if target and any(isinstance(leaf, torch.Generator) for leaf in leaves):
        raise RuntimeError(f"{func}: a generator of the CPU for a tensor of {AWAY}")
    goes = func.overloadpacket in (aten.copy_, aten._to_copy) and away and not target
    picks = func.overloadpacket in (aten.index, aten.index_put_) and any(
        isinstance(x, Away) and x.dtype == torch.bool for x in tensors[1:]
    )
    if away and (func.overloadpacket in WAITS or goes or picks):
        AwayDevice.waits.append(str(func))
    wrapped = {id(leaf.inner): leaf for leaf in tensors if isinstance(leaf, Away)}
    inner = [leaf.inner if isinstance(leaf, Away) else leaf for leaf in leaves]
    inner = [torch.device("cpu") if isinstance(leaf, torch.device) else leaf for leaf in inner]
    args, kwargs = tree_unflatten(inner, shape)
    with torch.inference_mode(False), torch.no_grad():  # tensors made in inference mode cannot be wrapped
        result = func(*args, **kwargs)
        if not target:
            return result
        doubles = [x for x in tree_flatten(result)[0] if isinstance(x, torch.Tensor) and x.dtype in WIDE]
        if doubles:
            raise TypeError(f"{func}: {AWAY} has no {doubles[0].dtype}, as mps has none")
        return tree_map_only(torch.Tensor, lambda x: wrapped[id(x)] if id(x) in wrapped else Away(x), result)
