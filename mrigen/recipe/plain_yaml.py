"""YAML as recipes may have it."""

from __future__ import annotations

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """Plain YAML: no tags beyond the standard ones, no aliases (which can grow without bound)."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed in recipes")
        return super().compose_node(parent, index)


def parse(text: str) -> Any:
    """The value that a text stands for.

    Raises:
        ValueError: it is not such YAML.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error
