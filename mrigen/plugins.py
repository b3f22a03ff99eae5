"""A user's own classes: from a Python file, named ``my_ops.py:MyOperator``, or of an installed package.

Operators, masks, objectives, losses, samplers, solvers and networks of a file derive from the class that
the package's own derive from (``mrigen list KIND`` names it). A package registers its members with the
registries' ``register`` in modules that it names as entry points of the group ``mrigen``:

    [project.entry-points.mrigen]
    my_masks = "my_package.my_masks"

An operator is an ``ImageCorruption``: ``draw`` returns operators, which are frozen dataclasses:

    @dataclass(frozen=True, eq=False)
    class Shading(LinearOperator):
        weights: Tensor

        def forward(self, x: Tensor) -> Tensor:
            return self.weights * x

        def adjoint(self, y: Tensor) -> Tensor:
            return self.weights * y

        def zero_image(self) -> Tensor:
            return torch.zeros_like(self.weights)

    class MyOperator(ImageCorruption):
        class Params(Params):
            darkest: float = 0.5

        ambient_obstacle = "the same for every image"

        def draw(self, batch: int, rng: torch.Generator) -> Shading:
            ramp = torch.linspace(1, self.params.darkest, self.shape[2])
            return Shading(ramp.expand(batch, *self.shape).contiguous())
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from mrigen.errors import UsageError
from mrigen.files import sha256

MARK = ".py:"
GROUP = "mrigen"


def is_file(name: str) -> bool:
    """Whether a name points into a Python file."""
    return MARK in name


def split(name: str) -> tuple[Path, str]:
    """``folder/my_ops.py:MyOperator`` as an absolute path and a class name."""
    path, _, cls = name.rpartition(":")
    return Path(path).expanduser().resolve(), cls


def load_class(name: str, base: type) -> type:
    """The class that ``name`` points to.

    The file is run once for each content that it has had.

    Args:
        name: path and class, ``my_ops.py:MyOperator``.
        base: what the class must derive from.

    Raises:
        UsageError: no such file, an error in it, no such class, or a class of another kind.
    """
    path, class_name = split(name)
    module = _load(path)
    member = getattr(module, class_name, None)
    if not inspect.isclass(member):
        own = [n for n, c in vars(module).items() if inspect.isclass(c) and c.__module__ == module.__name__]
        raise UsageError(f"{path}: has no class {class_name!r}; there are: {', '.join(own) or 'none'}")
    if not issubclass(member, base):
        raise UsageError(
            f"{path}: {class_name} is no {base.__name__}; derive it from "
            f"{base.__module__}.{base.__qualname__}"
        )
    missing = sorted(getattr(member, "__abstractmethods__", ()))
    parametrised = any("Params" in {*vars(c), *vars(c).get("__annotations__", {})} for c in base.__mro__)
    if parametrised and not inspect.isclass(getattr(member, "Params", None)):
        missing.append("Params")
    if missing:
        raise UsageError(
            f"{path}: {class_name} lacks {', '.join(missing)}; define what {base.__name__} asks for"
        )
    return member


def _load(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; name a class of yours as path/to/file.py:Class")
    name = f"mrigen_user_{hashlib.blake2b(str(path).encode(), digest_size=6).hexdigest()}_{sha256(path)[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path}: Python cannot import this file; name a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with errors_named(path, "importing it"):
            spec.loader.exec_module(module)
    except UsageError:
        del sys.modules[name]
        raise
    return module


@cache
def load_entry_points() -> None:
    """Import the modules that installed packages name as entry points of the group ``mrigen``, once.

    Raises:
        UsageError: one of them cannot be imported.
    """
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except UsageError:
            raise
        except Exception as error:
            package = point.dist.name if point.dist is not None else "a package"
            reason = " ".join(str(error).split())
            raise UsageError(
                f"entry point {point.name} = {point.value} of {package}: {type(error).__name__}: {reason}; "
                f"update or uninstall {package}"
            ) from error


@contextmanager
def errors_named(path: Path, doing: str) -> Iterator[None]:
    """What goes wrong in the user's code is the user's mistake: one line that names file and line.

    Raises:
        UsageError: instead of any other exception.
    """
    try:
        yield
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        text = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
        raise UsageError(
            f"{path}{_line(error, path)}: {type(error).__name__} while {doing}: {text}; mend the file"
        ) from error


def _line(error: BaseException, path: Path) -> str:
    """Where in the file an error arose, as ``:12``."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f":{error.lineno}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return f":{lines[-1]}" if lines else ""
