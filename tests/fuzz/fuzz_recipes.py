"""Recipes: YAML, then the schema."""

import tempfile
from contextlib import suppress
from pathlib import Path

from mrigen import recipe
from mrigen.errors import UsageError

FOLDER = tempfile.TemporaryDirectory()
PATH = Path(FOLDER.name) / "x.yaml"
TINY = b"""\
title: tiny
data:
  images: {source: digits, operator: {name: inpainting, missing: 0.5}, size: 8}
teacher:
  network: {name: song-unet, model_channels: 8, channel_mult: [1], num_blocks: 1, attn_resolutions: []}
  optimizer: {lr: 1e-3, betas: [0.9, 0.99]}
  images: 8
distill:
  loss: {name: sid}
  images: 8
  ema_halflife: [10, 20]
  selection: {every_images: 4}
evaluate: {samples: 8, sampler: {name: heun, steps: 3}}
"""
EXAMPLES = [TINY, b"extends: demo/brain\nseed: 3\nteacher: {batch: 4}\n", recipe.text("demo/brain").encode()]
TOKENS = [
    b"!!python/object/apply:os.system ['true']", b"!!binary x", b"!!set {a}", b"!!timestamp 2001-01-01",
    b"&a ", b"*a", b"<<: ", b"- ", b"? ", b": ", b"{", b"[", b"|\n", b"~", b"\t", b"---\n", b"%YAML 9\n",
    b"extends: x.yaml\n", b"name: dmd", b"[[]]", b"2001-99-99", b"1:60:60", b"0b2", b".nan", b"\x00", b"\xff",
    b"[" * 500, b"\xef\xbb\xbf", b'"\\ud800"',
]  # fmt: skip


def target(data):
    PATH.write_bytes(data)
    with suppress(UsageError):
        recipe.load(str(PATH))
