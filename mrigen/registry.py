"""One-file extension: a class, its ``Params``, ``register`` and ``example`` in a file of its own.

A registry knows the package in which its members live, imports every module there on first use,
and turns ``{"name": "sid", "alpha": 1.0}`` from a recipe into an object.
"""

import difflib
import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from mrigen.errors import UsageError


class Params(BaseModel):
    """Base of all parameter sets: unknown keys and NaN are refused, values cannot change afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Registrable(Protocol):
    """What a registered class offers."""

    Params: ClassVar[type[BaseModel]]

    @classmethod
    def example(cls) -> Self:
        """Small instance on which the shared contract tests run."""
        ...


T = TypeVar("T")


class Registry(Generic[T]):
    """Members of one kind, by name.

    Args:
        kind: the word for error messages, for example ``"objective"``.
        package: dotted name of the package whose modules register the members.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._members: dict[str, type[Any]] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator: make the class known under ``name``."""

        def decorate(cls: type[T]) -> type[T]:
            if name in self._members:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._members[name] = cls
            return cls

        return decorate

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self._load()
        return sorted(self._members)

    def __getitem__(self, name: str) -> type[Any]:
        self._load()
        if name not in self._members:
            close = difflib.get_close_matches(name, self._members, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(self.names())}"
            raise UsageError(f"unknown {self.kind} {name!r}: {hint}")
        return self._members[name]

    def parse(self, text: str) -> dict[str, Any]:
        """A command line's ``name`` or ``name:key=value,...`` as a recipe's mapping; not yet validated.

        Values are written as in YAML: ``inpainting:missing=0.8``, ``missing-box:size=[16, 8]``,
        ``my_ops.py:MyOperator:std=2``.

        Raises:
            UsageError: a value is no YAML, or a key stands twice.
        """
        first, *rest = re.split(r"[:,](?=\s*[A-Za-z_]\w*\s*=)", text)
        spec: dict[str, Any] = {"name": first.strip()}
        for key, value in (pair.split("=", 1) for pair in rest):
            try:
                parsed = yaml.safe_load(value)
            except yaml.YAMLError as error:
                raise UsageError(
                    f"{self.kind} {text!r}: {key}={value} is not YAML; mend the value"
                ) from error
            if key.strip() in spec:
                raise UsageError(f"{self.kind} {text!r}: says {key.strip()} twice; leave one out")
            spec[key.strip()] = parsed
        return spec

    def params(self, spec: Mapping[str, Any]) -> BaseModel:
        """Validate a recipe's mapping (``name`` plus parameters) against the member's ``Params``."""
        values = dict(spec)
        name = str(values.pop("name", ""))
        try:
            params: BaseModel = self[name].Params(**values)
        except ValidationError as error:
            raise UsageError(f"{self.kind} {name!r}: {describe(error)}") from error
        return params

    def build(self, spec: Mapping[str, Any], **context: Any) -> Any:
        """Make the object that a recipe's mapping describes; ``context`` is what a recipe cannot say."""
        return self[str(spec.get("name", ""))](self.params(spec), **context)

    def _load(self) -> None:
        if self._loaded:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")
        self._loaded = True


def describe(error: ValidationError) -> str:
    """One line for a pydantic error: every faulty key with its fault."""
    faults = []
    for fault in error.errors():
        where = ".".join(str(part) for part in fault["loc"]) or "value"
        what = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"]
        faults.append(f"{where}: {what}")
    return "; ".join(faults)
