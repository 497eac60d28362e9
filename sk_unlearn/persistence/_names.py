"""Names of classes and functions in a file, and which of them are trusted without being asked for."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from types import BuiltinFunctionType, FunctionType
from typing import Any, NamedTuple

import numpy as np

from sk_unlearn.exceptions import PersistenceError

__all__ = ["Name", "name_of", "resolve", "trusted_names", "untrusted"]


class Name(NamedTuple):
    """Something that a file needs to find by name.

    Attributes
    ----------
    kind : {"class", "function", "rebuild"}
        Whether it is a class, a function that an object only holds, or one that is called while the file is loaded.
    module, qualname : str
        Where it is.
    """

    kind: str
    module: str
    qualname: str

    @property
    def full(self) -> str:
        """The name as users write it into `trusted`."""
        return f"{self.module}.{self.qualname}"


# Classes of these packages are only what their authors made them, and take no names of files or commands.
_PACKAGES = ("sk_unlearn", "sklearn", "skorch", "torch.nn", "torch.optim", "torch.utils.data")
# But for these: they read or write files, start processes, or hold raw positions in memory which nobody checks.
_NOT_TRUSTED = (
    "sk_unlearn.commands",
    "sk_unlearn.persistence",
    "sk_unlearn.rows.mapped",
    "sklearn.datasets",
    "sklearn.tree._tree",
    "sklearn.neighbors._kd_tree",
    "sklearn.neighbors._ball_tree",
    "sklearn.neighbors._quad_tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor",
    *(f"skorch.callbacks.logging.{name}Logger" for name in ("Mlflow", "Neptune", "Sacred", "Wandb")),
    "skorch.callbacks.logging.TensorBoard",
    "skorch.callbacks.training.Checkpoint",
    "skorch.callbacks.training.LoadInitState",
    "skorch.callbacks.training.TrainEndCheckpoint",
    "skorch.cli",
    "skorch.hf",
    "skorch.llm",
    "torch.nn.parallel",
    "torch.utils.data.datapipes",
)
# Parts of module names that no estimator comes from.
_NO_HOME = frozenset(("tests", "conftest", "externals", "__main__", "_testing"))
# Lists of names, as regular expressions that have to match in full.
_CLASSES = re.compile(
    r"builtins\.(bool|bytearray|bytes|complex|dict|float|frozenset|int|list|object|range|set|slice|str|tuple)"
    r"|collections\.(Counter|OrderedDict|defaultdict|deque)"
    r"|datetime\.(date|datetime|time|timedelta|timezone)"
    r"|decimal\.Decimal|fractions\.Fraction|uuid\.(UUID|SafeUUID)|ipaddress\.IPv[46](Address|Network|Interface)"
    r"|functools\.partial|types\.SimpleNamespace"
    r"|numpy\.(bool|(u?int|float|complex)(8|16|32|64|128)|str_|bytes_|object_|datetime64|timedelta64|longdouble)"
    r"|numpy\.(u?longlong|clongdouble|intc|uintc|ndarray)"
    r"|numpy\.random\._(pcg64\.PCG64(DXSM)?|mt19937\.MT19937|philox\.Philox|sfc64\.SFC64)"
    r"|numpy\.random\.bit_generator\.SeedSequence"
    r"|pandas\.(core\.dtypes\.dtypes\.\w+|core\.arrays\.\w+\.\w+Dtype)"
    r"|pandas\.(\w+Dtype|DataFrame|Series)"
    r"|scipy\.sparse\.(_\w+\.)?(csr|csc|bsr|coo|dia|lil|dok)_(array|matrix)"
    r"|torch\.(Size|Tensor|Generator|device)"
)
_FUNCTIONS = re.compile(
    r"(sk_unlearn\.metrics|sklearn\.metrics|sklearn\.feature_selection|torch\.nn\.functional|torch\.nn\.init)\..*"
    r"|torch(\._C\._nn)?\.(relu|selu|celu|gelu|elu|silu|tanh|sigmoid|softmax|log_softmax|exp|log|sin|cos|square|abs"
    r"|leaky_relu|hardtanh|softplus|log_sigmoid|rrelu|prelu|threshold)_?"
    r"|skorch\.(setter\.optimizer_setter|helper\._make_split|dataset\.\w+)"
    r"|skorch\.utils\.(_identity|_indexing_\w+|noop|to_device|to_numpy|to_tensor)"
    r"|builtins\.(abs|len|max|min|print|sum)"
)
# Ways to make objects again. Those of Cython make an object of the class that they are named after.
_REBUILDERS = re.compile(
    r"sk_unlearn\.persistence\._rebuild\.(column|constant|frame|generator|here|index|instant|instants|masked|multi_index"
    r"|nothing|range_index|series|sparse|storage|tensor|time_zone|typed_storage)"
    r"|torch\._utils\._rebuild_(parameter|parameter_with_state|sparse_tensor)"
    r"|torch\._tensor\._rebuild_from_type_v2"
    r"|numpy\.random\._pickle\.__(randomstate|generator|bit_generator)_ctor"
    r"|numpy\.random\.bit_generator\.__pyx_unpickle_SeedSequence"
    r"|sklearn\._loss\._loss\.__pyx_unpickle_Cy\w+|sklearn\.linear_model\._sgd_fast\.__pyx_unpickle_\w+"
)
# Where functions written in C may be found that do not know their module.
_HOMES = ("builtins", "torch", "torch.nn.functional", "numpy", "scipy.special")


def name_of(obj: Any, kind: str) -> Name:
    """Return the name under which a class or a function is found again.

    Raises
    ------
    PersistenceError
        If there is none: it was defined inside a function, or is a lambda.
    """
    qualname = getattr(obj, "__qualname__", None) or obj.__name__
    for module in [getattr(obj, "__module__", None), *_HOMES]:
        if module and _found(module, qualname) is obj:
            return Name(kind, module, qualname)
    what = "a lambda" if "<lambda>" in qualname else f"{qualname}, which is not found in its module,"
    raise PersistenceError(f"holds {what} and cannot be saved; define it at the top of a module, with def or class")


def _found(module: str, qualname: str) -> Any:
    try:
        found: Any = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return found


def resolve(name: Name) -> Any:
    """Return the class or function of that name.

    Raises
    ------
    PersistenceError
        If there is none here, or it is another one that goes by that name too.
    """
    found = _found(name.module, name.qualname)
    if found is None:
        raise PersistenceError(
            f"{name.full} cannot be imported here; install or define what it belongs to as it was where the file was "
            "written"
        )
    kinds = type if name.kind == "class" else (FunctionType, BuiltinFunctionType, np.ufunc)
    cython = type(found).__name__ == "cython_function_or_method"
    fits = isinstance(found, kinds) or (cython and name.kind != "class")
    # Its own name, lest a path through a trusted module lead to what that module has imported.
    if not fits or (not cython and name_of(found, name.kind) != name):
        raise PersistenceError(f"{name.full} is not what the file says it is")
    return found


def untrusted(names: Iterable[Name], trusted: Iterable[str] = ()) -> list[str]:
    """Return those that are neither trusted by this package nor named by the user, sorted; nothing is imported."""
    named = set(trusted)
    return sorted({name.full for name in names if name.full not in named and not _is_ours(name)})


def _is_ours(name: Name) -> bool:
    if name.kind == "rebuild":
        return bool(_REBUILDERS.fullmatch(name.full))
    if not _NO_HOME.isdisjoint(name.full.split(".")) or _is_within(name.full, _NOT_TRUSTED):
        return False
    if name.kind == "function":
        # A ufunc of numpy or scipy computes, whatever it is given.
        return bool(_FUNCTIONS.fullmatch(name.full)) or _is_ufunc(name)
    return _is_within(name.full, _PACKAGES) or bool(_CLASSES.fullmatch(name.full))


def _is_within(full: str, packages: tuple[str, ...]) -> bool:
    return any(full == each or full.startswith(f"{each}.") for each in packages)


def _is_ufunc(name: Name) -> bool:
    return name.module in ("numpy", "scipy.special") and isinstance(_found(name.module, name.qualname), np.ufunc)


def trusted_names(trusted: Any) -> list[str]:
    """Return the names in `trusted`, where classes and functions may stand for theirs.

    Raises
    ------
    TypeError
        If it is True, a string, or holds something else.
    """
    if trusted is None:
        return []
    if isinstance(trusted, bool | str) or not isinstance(trusted, Iterable):
        raise TypeError(
            f"trusted must be a list of names, got {type(trusted).__name__}; "
            "sk_unlearn.persistence.untrusted_types(path) says which names a file asks for"
        )
    listed = list(trusted)
    return [one if isinstance(one, str) else name_of(one, "class").full for one in listed]
