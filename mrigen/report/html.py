"""Parts of a self-contained page: tables, curves, pictures, a viewer of slices. It opens no connection."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

LARGEST = 10_000_000  # bytes of a page
WIDTH, HEIGHT, LEFT, BOTTOM = 360, 200, 48, 26
GAIN = 5.0  # by which maps of errors and deviations are brightened

Grey = NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """Slices of one kind.

    Attributes:
        name: what they show.
        values: (n, H, W), not negative, in the units of all layers.
        is_map: errors or deviations, which are brightened and keep their zero.
    """

    name: str
    values: Grey
    is_map: bool = False


def document(title: str, about: str, sections: Sequence[tuple[str, str]]) -> str:
    """The whole page.

    Args:
        title: of the page.
        about: a paragraph below it, as text.
        sections: headings and their HTML; empty ones are left out.
    """
    sources = files("mrigen.report")
    style, script = (sources.joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    shown = [(heading, body) for heading, body in sections if body]
    body = "".join(f"<section><h2>{escape(heading)}</h2>\n{text}\n</section>\n" for heading, text in shown)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<main>\n<h1>{escape(title)}</h1>\n<p>{escape(about)}</p>\n{body}</main>\n"
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )


def facts(rows: Mapping[str, object]) -> str:
    """A table of names and values; those that are empty are left out."""
    lines = [
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(str(value))}</td></tr>'
        for name, value in rows.items()
        if value not in {None, ""}
    ]
    return f'<table class="facts">{"".join(lines)}</table>' if lines else ""


def table(rows: Mapping[str, Mapping[str, object]], columns: Mapping[str, str], caption: str) -> str:
    """Numbers by row and column; an interval ``KEY_interval`` stands below its number.

    Args:
        rows: numbers by key, by the name of the row.
        columns: titles by key.
        caption: what they are.
    """
    keys = [key for key in columns if any(isinstance(row.get(key), int | float) for row in rows.values())]
    head = "".join(f'<th scope="col">{escape(columns[key])}</th>' for key in keys)
    body = ""
    for name, row in rows.items():
        body += f'<tr><th scope="row">{escape(name)}</th>'
        for key in keys:
            value, interval = row.get(key), row.get(f"{key}_interval")
            text = f"{value:.4g}" if isinstance(value, int | float) else ""
            if isinstance(interval, Sequence) and text:
                text += f"<br><small>{interval[0]:.4g} to {interval[1]:.4g}</small>"
            body += f"<td>{text}</td>"
        body += "</tr>\n"
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr><td></td>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def preformatted(text: str, summary: str | None = None) -> str:
    """Text as it is, behind a summary that opens it, or in sight."""
    block = f"<pre>{escape(text)}</pre>"
    return block if summary is None else f"<details><summary>{escape(summary)}</summary>{block}</details>"


def curve(name: str, x: Sequence[float], y: Sequence[float], axis: str = "images") -> str:
    """A line over images, logarithmic where all values are positive; its ends and least value in words."""
    points = [(a, b) for a, b in zip(x, y, strict=True) if np.isfinite(b)]
    if len(points) < 2:
        return ""
    low, high = min(b for _, b in points), max(b for _, b in points)
    logarithmic = low > 0 and high > 4 * low
    heights = [np.log10(b) if logarithmic else b for _, b in points]
    bottom, top = min(heights), max(*heights, min(heights) + 1e-12)
    first, last = points[0][0], points[-1][0]
    place = [
        (
            LEFT + (WIDTH - LEFT - 8) * (a - first) / ((last - first) or 1),
            HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 10) * (h - bottom) / (top - bottom),
        )
        for (a, _), h in zip(points, heights, strict=True)
    ]
    path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in place)
    scale = ", logarithmic" if logarithmic else ""
    words = (
        f"{name}: {points[0][1]:.4g} after {first:,.0f} {axis}, {points[-1][1]:.4g} after {last:,.0f}; "
        f"least {low:.4g}, largest {high:.4g}"
    )
    ground = HEIGHT - BOTTOM
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(words)}">'
        f'<line x1="{LEFT}" y1="{ground}" x2="{WIDTH - 8}" y2="{ground}"/>'
        f'<line x1="{LEFT}" y1="10" x2="{LEFT}" y2="{ground}"/>'
        f'<path d="{path}"/><text x="{LEFT - 4}" y="16" text-anchor="end">{high:.3g}</text>'
        f'<text x="{LEFT - 4}" y="{ground}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 8}">{first:,.0f}</text>'
        f'<text x="{WIDTH - 8}" y="{HEIGHT - 8}" text-anchor="end">{last:,.0f} {escape(axis)}</text></svg>'
        f"<figcaption>{escape(words)}{scale}</figcaption></figure>"
    )


def picture(pixels: NDArray[np.uint8], alternative: str, caption: str = "") -> str:
    """An image (H, W) or (H, W, 3) as a figure."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", optimize=True)
    return png(file.getvalue(), alternative, caption, pixels=True)


def png(content: bytes, alternative: str, caption: str = "", *, pixels: bool = False) -> str:
    """The content of a PNG file as a figure."""
    text = base64.b64encode(content).decode()
    kind = ' class="pixels"' if pixels else ""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure><img{kind} src="data:image/png;base64,{text}" alt="{escape(alternative)}">{below}</figure>'
    )


def tiles(figures: Sequence[str]) -> str:
    """Small figures side by side."""
    return f'<div class="tiles">{"".join(figures)}</div>' if figures else ""


def viewer(label: str, layers: Sequence[Layer], names: Sequence[str]) -> str:
    """Panels side by side that scroll through the same slices in the same grey window.

    Layers are stored with 8 bits, from 0 to their largest value. The arrow keys scroll and change the window.

    Args:
        label: what is shown.
        layers: as many slices each; the window follows those that are no maps.
        names: of the slices.
    """
    rows, columns = layers[0].values.shape[1:]
    tops = [float(max(layer.values.max(), 1e-30)) for layer in layers]
    plain = [layer.values for layer in layers if not layer.is_map]
    unit = float(np.quantile(np.concatenate([v.reshape(-1) for v in plain]), 0.995)) or 1.0
    about = {
        "shape": [rows, columns],
        "names": list(names),
        "gain": GAIN,
        "layers": [
            {"name": layer.name, "map": layer.is_map, "top": top / unit}
            for layer, top in zip(layers, tops, strict=True)
        ],
    }
    panels, blobs = "", ""
    for layer, top in zip(layers, tops, strict=True):
        quantised = (255 * np.clip(layer.values / top, 0, 1)).round().astype(np.uint8)
        text = base64.b64encode(zlib.compress(quantised.tobytes(), 9)).decode()
        blobs += f'<script type="text/plain" data-layer>{text}</script>\n'
        caption = f"{layer.name} × {GAIN:g}" if layer.is_map else layer.name
        panels += (
            f'<figure><canvas width="{columns}" height="{rows}" role="img" aria-label="{escape(layer.name)}">'
            f"</canvas><figcaption>{escape(caption)}</figcaption></figure>"
        )
    content = json.dumps(about, ensure_ascii=False).replace("<", "\\u003c")
    last = len(names) - 1
    return (
        f'<div class="viewer" tabindex="0" role="group" aria-label="{escape(label)}: arrows up and down '
        f'scroll, left and right change the window">\n<script type="application/json" data-about>{content}'
        f'</script>\n{blobs}<div class="panels">{panels}</div>\n<div class="controls">'
        f'<label>slice <input type="range" name="slice" min="0" max="{last}" step="1" value="{last // 2}">'
        '</label><label>black at <input type="range" name="low" min="0" max="0.9" step="0.01" value="0">'
        '</label><label>white at <input type="range" name="high" min="0.05" max="2" step="0.01" value="1">'
        '</label></div>\n<p class="note" aria-live="polite"></p>\n<p class="note keys">Keys: up and down '
        "scroll, left and right change where white begins, comma and point where black ends; the wheel "
        "scrolls over the pictures. 1 is the 99.5th percentile.</p>\n"
        "<noscript><p>The slices need JavaScript.</p></noscript></div>"
    )
