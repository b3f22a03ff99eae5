"""An imported checkpoint in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrigen.channels import ChannelLayout
from mrigen.checkpoints.importer import Imported


def summary(imported: Imported, out: Path) -> list[tuple[str, str]]:
    """Rows of the table that ``mrigen import-checkpoint`` prints: label and text."""
    description = imported.description
    provenance, network = description.provenance, description.network
    channels, height, width = description.image_shape
    kind = "complex" if description.conventions.image == "complex" else f"{channels}-channel"
    rows = [
        ("source", f"{provenance['source']} ({provenance['format']}, {provenance['key'] or 'top level'})"),
        ("SHA-256", provenance["source_sha256"]),
        ("architecture", _architecture(provenance["classes"], network)),
        ("parameters", f"{imported.parameters:,}"),
        ("preconditioning", _call(description.preconditioner)),
        ("role", f"{description.role} ({imported.role_reason})"),
        ("channels", _channels(description.conventions)),
        ("images", f"{kind}, {height}x{width}"),
        ("corruption", _corruption(description.corruption)),
        ("objective", _call(description.objective) if description.objective else "none that mrigen has"),
        ("precision", "float32" + (", half in the authors' runs" if provenance["half_precision"] else "")),
        ("recipe", imported.recipe or "none ships for these data"),
        ("written to", str(out)),
    ]
    if description.sigma_init is not None:
        rows.insert(6, ("called at", f"σ = {description.sigma_init:g}, {description.generator_input} input"))
    return rows


def _architecture(classes: list[str], network: Mapping[str, Any]) -> str:
    if "channel_mult" not in network:
        return _call(network)
    multipliers = ",".join(str(mult) for mult in network["channel_mult"])
    words = [
        f"{classes[1]}, {network['model_channels']} channels x {multipliers}",
        f"{network['num_blocks']} blocks per level",
        f"resolution {network['resolution']}",
    ]
    words += [f"{network[key]} {key.removesuffix('_type')}" for key in network if key.endswith("_type")]
    words += ["gated"] * network["gated"]
    words += [f"{network['label_dim']} classes"] * (network["label_dim"] > 0)
    words += [f"{network['augment_dim']} augmentation labels"] * (network["augment_dim"] > 0)
    return ", ".join(words)


def _channels(conventions: ChannelLayout) -> str:
    image = (
        ["real", "imaginary"] if conventions.image == "complex" else [f"image ({conventions.image_channels})"]
    )
    words = list(image)
    if conventions.mask_channels:
        words.append(
            "further mask" + (f" ({conventions.mask_channels})" if conventions.mask_channels > 1 else "")
        )
    if conventions.ones_channel:
        words.append("ones")
    return f"{', '.join(words)} -> {', '.join(image)}"


def _corruption(corruption: Mapping[str, Any] | None) -> str:
    if corruption is None:
        return "none"
    described = next(
        (corruption[k] for k in ("mask", "operator") if isinstance(corruption.get(k), Mapping)), None
    )
    if described is not None and not {"acceleration", "acs_lines"} <= set(described):
        return _call(described)
    if described is not None:
        mask = described
        drop = (
            f"{mask['further_drop']} lines"
            if mask.get("further_drop") is not None
            else f"to R = {mask['acceleration'] + 1:g}"
        )
        return f"R = {mask['acceleration']:g}, {mask['acs_lines']} ACS lines, dropped further {drop}"
    unit = "values" if corruption["per_channel"] else "pixels"
    return (
        f"{corruption['missing']:.0%} of {unit} missing ({corruption['pattern']}), "
        f"{corruption['further_missing']:.0%} dropped further"
    )


def _call(spec: Mapping[str, Any]) -> str:
    flat: dict[str, Any] = {}
    for key, value in spec.items():
        flat.update(value if isinstance(value, Mapping) else {key: value})
    name = flat.pop("name")
    arguments = ", ".join(f"{key} {value}" for key, value in flat.items() if value is not None)
    return f"{name} ({arguments})" if arguments else str(name)
