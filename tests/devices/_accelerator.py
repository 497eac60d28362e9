"""A pretended CUDA device on the processor: it finds tensors on the wrong device, and counts round trips to the host.

Under ``with Accelerator() as gpu:`` a tensor sent to ``"cuda"`` stays an ordinary one of the processor, with its
values, but its memory is marked. Two modes of PyTorch watch it:

* a *function mode* sees every call from Python. ``tensor.device`` answers ``cuda:0`` for marked memory;
  ``device="cuda"`` is replaced by the processor before PyTorch sees it, and what comes out is marked; ``.to(...)``,
  ``.cpu()`` and ``.cuda()`` copy and mark, and ``.numpy()`` of marked memory raises;
* a *dispatch mode* sees every operation, in the backward pass too. Marked and unmarked operands together raise as on
  CUDA, with the same exceptions (numbers of shape (), index tensors, copies), and results of marked operands are
  marked. Here the round trips are counted: what makes the processor wait until the device has caught up.

What it cannot see: kernels that CUDA lacks, float order, the speed, streams, other threads.
"""

import functools
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack, contextmanager
from types import FunctionType, SimpleNamespace
from unittest import mock

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
Tensor = torch.Tensor
aten = torch.ops.aten

# Operations whose result has a length that only the device knows, or that hand a number to the host.
_WAITING = {
    aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten._unique2, aten.unique_dim,
    aten.unique_consecutive, aten.bincount,
}  # fmt: skip
# Operands from both sides are allowed in copies; indices may come from the host.
_COPIES, _INDEXED = {aten.copy_, aten._to_copy}, {aten.index, aten.index_put_, aten.index_put, aten._index_put_impl_}
_NO_PROMOTION = {aten.cat, aten.stack, aten.mm, aten.addmm, aten.mv, aten.addmv, aten.dot, aten.bmm}


class Generator(torch.Generator):
    """One of the processor that says which device it was made for."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls, "cpu")
        made.__dict__["device_"] = torch.device(device)
        return made

    @property
    def device(self):
        return self.__dict__["device_"]


class Accelerator:
    """The pretended device.

    Attributes
    ----------
    trips : Counter
        Round trips to the host: how often from which place, the innermost lines of ``sk_unlearn`` first.
    uploads : Counter
        Copies from the host, likewise; ``"pinned"`` first where the host does not wait for them, ``"waits"`` otherwise.
    """

    def __init__(self):
        self.trips, self.uploads = Counter(), Counter()
        self._marked, self._pinned = {}, {}

    def __enter__(self):
        self._stack = ExitStack()
        cuda = torch.cuda
        generator = Generator("cuda")
        pretended = {
            "is_available": lambda: True, "is_initialized": lambda: True, "init": lambda: None,
            "current_device": lambda: 0, "device_count": lambda: 1, "mem_get_info": lambda device=None: (2**33, 2**33),
            "get_rng_state": lambda device=None: generator.get_state(),
            "set_rng_state": lambda state, device=None: generator.set_state(state),
            "manual_seed_all": lambda seed: generator.manual_seed(seed), "default_generators": (generator,),
            "synchronize": lambda device=None: None, "memory_reserved": lambda device=None: 0,
            "memory_allocated": lambda device=None: 0,
            "get_device_properties": lambda device=None: SimpleNamespace(total_memory=2**34),
        }  # fmt: skip
        for name, value in pretended.items():
            self._stack.enter_context(mock.patch.object(cuda, name, value))
        self._stack.enter_context(mock.patch.object(torch, "Generator", Generator))
        self._stack.enter_context(mock.patch("torch.backends.cudnn.is_acceptable", return_value=False))
        self._stack.enter_context(mock.patch.object(torch.storage, "_to", self._unpickled))
        self._stack.enter_context(_Functions(self))
        self._stack.enter_context(_Operations(self))
        return self

    def __exit__(self, *error):
        self._stack.close()

    @property
    def n_trips(self):
        """Round trips so far."""
        return sum(self.trips.values())

    def marks(self, tensor):
        """Whether a tensor is on the pretended device."""
        while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            tensor = torch._C._functorch.get_unwrapped(tensor)
        try:
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):  # sparse
            return False
        return storage._cdata in self._marked

    def mark(self, found):
        """Put tensors on the device, whatever holds them."""
        for tensor in _tensors_in(found):
            self._mark(tensor)
        return found

    def _mark(self, tensor):
        while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            tensor = torch._C._functorch.get_unwrapped(tensor)
        storage = tensor.untyped_storage()
        if storage._cdata not in self._marked:
            # A weak reference keeps the address from being given to another storage.
            self._marked[storage._cdata] = StorageWeakRef(storage)

    def _unpickled(self, storage, device, non_blocking=False):
        made = storage.clone()
        if torch.device(device).type == "cuda":
            self._marked[made._cdata] = StorageWeakRef(made)
        return made

    def waits(self, kind):
        """Count a round trip."""
        self.trips[(kind, *_places())] += 1

    def receives(self, tensor, non_blocking):
        """Count a copy from the host."""
        kind = "pinned" if non_blocking and tensor.untyped_storage()._cdata in self._pinned else "waits"
        self.uploads[(kind, *_places())] += 1

    def pin(self, tensor):
        """Return a copy that the device fetches by itself."""
        copy = tensor.clone()
        storage = copy.untyped_storage()
        self._pinned[storage._cdata] = StorageWeakRef(storage)
        return copy


def _tensors_in(value):
    """The tensors in a value, or in lists of lists of values."""
    if isinstance(value, Tensor):
        yield value
    elif not isinstance(value, str) and isinstance(value, Iterable):
        for each in value:
            yield from _tensors_in(each)


def _places(n=4):
    """The innermost lines of the package that are being run."""
    found, frame = [], sys._getframe(1)
    while frame is not None and len(found) < n:
        _, inside, path = frame.f_code.co_filename.partition("/sk_unlearn/")
        if inside:
            found.append(f"{path}:{frame.f_lineno}:{frame.f_code.co_name}")
        frame = frame.f_back
    return tuple(found)


class _Operations(TorchDispatchMode):
    def __init__(self, gpu):
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, gpu, packet = kwargs or {}, self.gpu, func.overloadpacket
        tensors = [*_tensors_in(args), *_tensors_in(kwargs.values())]
        marked = [gpu.marks(t) for t in tensors]
        if not any(marked):
            return func(*args, **kwargs)
        if packet in _COPIES:
            return self._copy(func, args, kwargs, tensors, marked)
        if packet in _INDEXED:
            self._check_indexed(func, args, marked)
        elif not all(marked):
            self._refuse(func, tensors, marked)
        if packet in _WAITING:
            gpu.waits(packet.__name__)
        found = func(*args, **kwargs)
        return gpu.mark(found) if packet not in {aten._local_scalar_dense, aten.equal} else found

    def _refuse(self, func, tensors, marked):
        host = [t for t, on_device in zip(tensors, marked, strict=True) if not on_device]
        device = [t for t, on_device in zip(tensors, marked, strict=True) if on_device]
        numbers_only = all(t.ndim == 0 for t in host) and func.overloadpacket not in _NO_PROMOTION
        if not numbers_only:
            shapes = [tuple(t.shape) for t in host], [tuple(t.shape) for t in device]
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
                f"({func}; shapes on the cpu {shapes[0]}, on cuda {shapes[1]})"
            )

    def _check_indexed(self, func, args, marked):
        own, indices, *values = args
        on_device = self.gpu.marks(own)
        for index in indices:
            if index is None:
                continue
            if self.gpu.marks(index) and not on_device:
                raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
            if self.gpu.marks(index) and index.dtype in (torch.bool, torch.uint8):
                self.gpu.waits("mask")
        for value in values:
            if isinstance(value, Tensor) and value.ndim and self.gpu.marks(value) != on_device:
                raise RuntimeError(f"Expected all tensors to be on the same device ({func}).")

    def _copy(self, func, args, kwargs, tensors, marked):
        into_device, from_device = marked[0], marked[-1]
        if func.overloadpacket is aten._to_copy:
            return self.gpu.mark(func(*args, **kwargs))  # a change of dtype: other devices are seen by the other mode
        if from_device and not into_device:
            self.gpu.waits("copy_")
        if into_device and not from_device:
            self.gpu.receives(tensors[-1], non_blocking=False)
        return func(*args, **kwargs)


def _is_device(value):
    if isinstance(value, torch.device):
        return True
    return isinstance(value, str) and value.partition(":")[0] in ("cpu", "cuda", "mps", "meta")


@contextmanager
def _no_overrides():
    """Have functions of PyTorch that are written in Python run their own lines, of which the mode sees each."""
    asked = {name: value for name, value in vars(functional).items() if name.startswith("has_torch_function")}
    try:
        vars(functional).update(dict.fromkeys(asked, lambda *operands: False))
        yield
    finally:
        vars(functional).update(asked)


class _Functions(TorchFunctionMode):
    def __init__(self, gpu):
        super().__init__()
        self.gpu = gpu
        self.handlers = {
            Tensor.device.__get__: self._device, Tensor.is_cuda.__get__: self.gpu.marks,
            Tensor.is_cpu.__get__: lambda tensor: not gpu.marks(tensor),
            Tensor.get_device: lambda tensor: 0 if gpu.marks(tensor) else -1,
            Tensor.to: self._to, Tensor.cpu: self._cpu, Tensor.cuda: self._cuda, Tensor.numpy: self._numpy,
            Tensor.__array__: self._numpy, Tensor.tolist: self._tolist, torch.as_tensor: self._as_tensor,
            torch.asarray: self._as_tensor, Tensor.__deepcopy__: self._deepcopy, Tensor.new_tensor: self._new_tensor,
            Tensor.pin_memory: self._pin_memory,
        }  # fmt: skip

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        handler = self.handlers.get(func)
        if handler is None and getattr(func, "__self__", None) is Tensor.device:
            handler = self._device
        if handler is not None:
            found = handler(*args, **(kwargs if func is not Tensor.numpy else {}))
            return functools.partial(func, *args, **kwargs)() if found is NotImplemented else found
        if isinstance(func, FunctionType) and func.__module__ == functional.__name__:
            with self, _no_overrides():
                return func(*args, **kwargs)
        generator = kwargs.get("generator")
        wanted = kwargs.get("device")
        if wanted is None:
            if generator is not None and args and isinstance(args[0], Tensor):
                self._check_generator(generator, self._device(args[0]))
            return func(*args, **kwargs)
        wanted = torch.device(wanted)
        if generator is not None:
            self._check_generator(generator, wanted)
        found = func(*args, **(kwargs | {"device": CPU}))
        return self.gpu.mark(found) if wanted.type == "cuda" else found

    def _check_generator(self, generator, device):
        if generator.device.type != device.type:
            raise RuntimeError(
                f"Expected a '{device.type}' device type for generator but found '{generator.device.type}'"
            )

    def _device(self, tensor):
        return CUDA if self.gpu.marks(tensor) else CPU

    def _moved(self, tensor, device, non_blocking=False):
        if (device.type == "cuda") == self.gpu.marks(tensor):
            return tensor
        if device.type == "cuda":
            self.gpu.receives(tensor, non_blocking)
            with torch._C.DisableTorchFunction():
                return self.gpu.mark(tensor.clone())
        self.gpu.waits("to host")
        return _Leave.apply(tensor, self.gpu)

    def _to(self, tensor, *args, **kwargs):
        device, non_blocking = kwargs.pop("device", None), kwargs.pop("non_blocking", False)
        rest = []
        for value in args:
            if isinstance(value, Tensor):
                device, value = self._device(value), value.dtype
            elif _is_device(value):
                device, value = torch.device(value), None
            if value is not None:
                rest.append(value)
        if rest and not isinstance(rest[0], torch.dtype):
            non_blocking, rest = rest[0], []
        moved = tensor if device is None else self._moved(tensor, torch.device(device), non_blocking)
        return moved.to(*rest, **kwargs) if rest or kwargs else moved

    def _cpu(self, tensor, *args, **kwargs):
        return self._moved(tensor, CPU)

    def _cuda(self, tensor, *args, **kwargs):
        return self._moved(tensor, CUDA)

    def _numpy(self, tensor, *args, **kwargs):
        if self.gpu.marks(tensor):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        return NotImplemented

    def _tolist(self, tensor):
        if self.gpu.marks(tensor):
            self.gpu.waits("tolist")
        return NotImplemented

    def _as_tensor(self, data, dtype=None, device=None, **kwargs):
        if isinstance(data, Tensor):
            return self._to(data, *([] if device is None else [device]), *([] if dtype is None else [dtype]))
        made = torch.as_tensor(data, dtype=dtype)
        return made if device is None else self._moved(made, torch.device(device))

    def _pin_memory(self, tensor):
        if self.gpu.marks(tensor):
            raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
        return self.gpu.pin(tensor)

    def _new_tensor(self, like, data, dtype=None, device=None, **kwargs):
        made = torch.tensor(data, dtype=dtype or like.dtype, **kwargs)
        return self._moved(made, self._device(like) if device is None else torch.device(device))

    def _deepcopy(self, tensor, memo):
        with torch._C.DisableTorchFunction():
            made = Tensor.__deepcopy__(tensor, memo)
        return self.gpu.mark(made) if self.gpu.marks(tensor) else made


class _Leave(torch.autograd.Function):
    """A copy on the host, whose gradient goes back to the device."""

    @staticmethod
    def forward(ctx, tensor, gpu):
        ctx.gpu = gpu
        with torch.utils._python_dispatch._disable_current_modes():
            return tensor.detach().clone()

    @staticmethod
    def backward(ctx, slope):
        return ctx.gpu.mark(slope.clone()), None
