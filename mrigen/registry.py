"""One-file extension: a class, its ``Params``, ``register`` and ``example`` in a file of its own.

A registry knows the package in which its members live, imports every module there on first use,
and turns ``{"name": "sid", "alpha": 1.0}`` from a recipe into an object. Members may also be classes in
a user's file, ``{"name": "mine.py:Mine"}``, or come from installed packages, see ``mrigen.plugins``.
"""

import difflib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Generic,
    Literal,
    Protocol,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from mrigen import plugins
from mrigen.errors import UsageError
from mrigen.files import sha256

CHECKSUMS = "sha256"
SIGNS = {
    "gt": ">",
    "ge": ">=",
    "lt": "<",
    "le": "<=",
    "min_length": "length >=",
    "max_length": "length <=",
}


class Params(BaseModel):
    """Base of all parameter sets: unknown keys and NaN are refused, values cannot change afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def stage_settings(self, *added: str) -> dict[str, Any]:
        """As JSON, for comparison with what a folder was made with.

        Args:
            added: fields that earlier versions did not have, left out at their defaults.
        """
        left_out = {key for key in added if getattr(self, key) == type(self).model_fields[key].default}
        return self.model_dump(mode="json", exclude=left_out)


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
        package: dotted name of the package whose modules, or of the module that, register the members.
        base: dotted name of the class that members derive from.
    """

    def __init__(self, kind: str, package: str, base: str) -> None:
        self.kind = kind
        self._package = package
        self._base = base
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

    @property
    def base(self) -> type[Any]:
        """The class that members derive from."""
        module, _, name = self._base.rpartition(".")
        base: type[Any] = getattr(importlib.import_module(module), name)
        return base

    def name_of(self, member: object) -> str:
        """The name of an object's class, or that of the class where it is not registered."""
        known = {cls: name for name, cls in self._members.items()}
        return known.get(type(member), type(member).__name__)

    def __getitem__(self, name: str) -> type[Any]:
        if plugins.is_file(name):
            return plugins.load_class(name, self.base)
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
        """Validate a recipe's mapping (``name`` plus parameters) against the member's ``Params``.

        Raises:
            UsageError: unknown name or parameter, or a file that is missing or has changed since the
                mapping was frozen.
        """
        values = self.unfrozen(spec)
        name = str(values.pop("name", ""))
        try:
            params: BaseModel = self[name].Params(**values)
        except ValidationError as error:
            fault = describe(error)
            if WORDS["extra_forbidden"] in fault:
                fault += f" (it has {', '.join(self[name].Params.model_fields) or 'none'})"
            raise UsageError(f"{self.kind} {name!r}: {fault}") from error
        return params

    def build(self, spec: Mapping[str, Any], **context: Any) -> Any:
        """Make the object that a recipe's mapping describes; ``context`` is what a recipe cannot say."""
        params = self.params(spec)
        name = str(spec.get("name", ""))
        if not plugins.is_file(name):
            return self[name](params, **context)
        with plugins.errors_named(plugins.split(name)[0], f"making the {self.kind}"):
            return self[name](params, **context)

    def canonical(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """A mapping with every parameter written out and the path of a file made absolute; ready for JSON."""
        params = self.params(spec)
        name = str(spec["name"])
        if plugins.is_file(name):
            name = ":".join(map(str, plugins.split(name)))
        return {"name": name, **params.model_dump(mode="json")}

    def files(self, spec: Mapping[str, Any]) -> list[Path]:
        """The user's files that decide what a canonical mapping means."""
        name = str(spec["name"])
        return [plugins.split(name)[0]] if plugins.is_file(name) else []

    def freeze(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """``canonical``, with the SHA-256 of every file that it needs: to store with data and models.

        ``params`` and ``build`` refuse it once one of these files has changed.

        Raises:
            UsageError: as ``params``.
        """
        frozen = self.canonical(spec)
        checksums = {str(path): sha256(path) for path in self.files(frozen)}
        return {**frozen, CHECKSUMS: checksums} if checksums else frozen

    def pinned(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """As ``freeze`` for a member of a user's file; those of the package stay as they were written."""
        return self.freeze(spec) if plugins.is_file(str(spec.get("name", ""))) else dict(spec)

    def unfrozen(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """The mapping without its checksums, which must be those of the files.

        Raises:
            UsageError: a file is missing, or is another one now.
        """
        if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
            example = self.names()[0]
            raise UsageError(
                f"{self.kind}: give a mapping with a name, such as {{'name': {example!r}}}, not {spec!r}"
            )
        values = dict(spec)
        for path, checksum in values.pop(CHECKSUMS, {}).items():
            if not Path(path).is_file():
                raise UsageError(
                    f"{path}: no such file, but {self.kind} {values.get('name')!r} needs it; restore it"
                )
            if sha256(Path(path)) != checksum:
                raise UsageError(
                    f"{path}: changed since {self.kind} {values.get('name')!r} was recorded "
                    f"(sha256 {checksum[:12]}...); restore the file, or prepare the data and train again"
                )
        return values

    def _load(self) -> None:
        if self._loaded:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
            importlib.import_module(f"{self._package}.{module.name}")
        self._loaded = True
        plugins.load_entry_points()


@dataclass(frozen=True)
class Parameter:
    """A parameter of a registered class, for people.

    Attributes:
        name: as recipes write it.
        kind: type and bounds.
        default: as YAML, or ``required``.
        text: what it means.
    """

    name: str
    kind: str
    default: str
    text: str


def parameters(member: type[Registrable]) -> list[Parameter]:
    """The parameters of a class, those of its bases last, with what their docstrings say."""
    if not hasattr(member, "Params"):
        return []
    texts: dict[str, str] = {}
    for base in reversed(member.Params.__mro__):
        texts |= _attributes(base.__doc__ or "")
    described = []
    for name, field in member.Params.model_fields.items():
        default = "required" if field.is_required() else _yaml(field.get_default(call_default_factory=True))
        described.append(
            Parameter(name, _kind(field.annotation, field.metadata), default, texts.get(name, ""))
        )
    return described


def _yaml(value: Any) -> str:
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=1000)
    return text.removesuffix("...\n").strip()


def _kind(annotation: Any, rules: Sequence[Any] = ()) -> str:
    """Type and bounds for people, such as ``float > 0 or null``."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inner[0], [*inner[1:], *rules])
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin in (Union, UnionType):
        return " or ".join(_kind(each) for each in inner)
    name = "null" if annotation is type(None) else str(getattr(annotation, "__name__", annotation))
    if inner:
        name += f"[{', '.join('...' if each is ... else _kind(each) for each in inner)}]"
    bounds = ", ".join(_bounds(rules))
    return f"{name} {bounds}" if bounds else name


def _bounds(rules: Sequence[Any]) -> list[str]:
    """Bounds among the metadata of an annotation."""
    bounds = []
    for rule in rules:
        if isinstance(rule, FieldInfo):
            bounds += _bounds(rule.metadata)
        for key, sign in SIGNS.items():
            if not isinstance(rule, FieldInfo) and getattr(rule, key, None) is not None:
                bounds.append(f"{sign} {getattr(rule, key)}")
    return bounds


def _attributes(docstring: str) -> dict[str, str]:
    """The section ``Attributes:`` of a docstring, a line each."""
    _, _, section = inspect.cleandoc(docstring).partition("Attributes:\n")
    texts: dict[str, str] = {}
    name = ""
    for line in section.split("\n\n")[0].splitlines():
        if match := re.match(r"    (\w+): (.*)", line):
            name = match[1]
            texts[name] = match[2]
        elif name:
            texts[name] += f" {line.strip()}"
    return texts


WORDS = {
    "extra_forbidden": "unknown key",
    "model_type": "must be a section, that is, keys with values, or {key: value}",
    "dict_type": "must be a section, that is, keys with values, or {key: value}",
    "mapping_type": "must be a section, that is, keys with values, or {key: value}",
    "list_type": "must be a list, [one, two]",
    "missing": "is missing; give it",
}
"""What pydantic says with words of Python, or too shortly, by its name of the fault."""


def describe(error: ValidationError) -> str:
    """One line for a pydantic error: every faulty key with its fault."""
    faults = []
    for fault in error.errors():
        where = ".".join(str(part) for part in fault["loc"]) or "value"
        what = (
            WORDS.get(fault["type"], fault["msg"])
            .removeprefix("Value error, ")
            .replace("Input should be", "must be")
        )
        faults.append(f"{where}: {what}")
    return "; ".join(faults)
