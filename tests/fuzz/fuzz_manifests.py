"""Manifests of stores."""

import json
import tempfile
from contextlib import suppress
from pathlib import Path

from mrigen.data.image_manifest import ImageManifest
from mrigen.data.manifest import NAME, data_kind
from mrigen.data.mri_manifest import MRIManifest
from mrigen.data.stores import open_store
from mrigen.errors import UsageError

FOLDER = tempfile.TemporaryDirectory()
PATH = Path(FOLDER.name)
SHARED = {"schema_version": 1, "kind": "measurements", "created_by": "mrigen", "parameters": {"seed": 0}}
SLICE = {"slice": 0, "lines": 8, "acceleration": 2.0, "scale": 1.5, "mismatch": 0.1, "noise": None}
VOLUME = {
    "file": "a.h5",
    "source": "a.h5",
    "source_sha256": "0" * 64,
    "split": "train",
    "shape": [2, 16, 16],
    "acs_lines": 4,
    "header": {"tr_ms": 3.0},
    "slices": [SLICE],
}
MASK = {"name": "exact-random", "acceleration": 2, "acs_lines": 4}
MRI = {**SHARED, "data": "mri", "mask": MASK, "checksums": {"a.h5": "0" * 64}, "volumes": [VOLUME]}
EXAMPLES = [json.dumps(MRI).encode(), json.dumps({**SHARED, "data": "images"}).encode()]
TOKENS = [
    b"null", b"[]", b"{}", b'""', b"true", b"NaN", b"Infinity", b'"../x.h5"', b'"images"', b'"reference"',
    b"\\ud800", b"\\u0000", b"[" * 2000, b'{"a":' * 200, b"\xff",
]  # fmt: skip


def target(data):
    (PATH / NAME).write_bytes(data)
    for read in (data_kind, MRIManifest.load, ImageManifest.load, open_store):
        with suppress(UsageError):
            read(PATH)
