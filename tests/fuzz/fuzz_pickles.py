"""Checkpoint files, from their container to the weights in them."""

import pickle
import tempfile
from collections import OrderedDict
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import torch

from mrigen.checkpoints.container import read_checkpoint
from mrigen.checkpoints.released import find
from mrigen.errors import UsageError

FOLDER = tempfile.TemporaryDirectory()
PATH = Path(FOLDER.name) / "x.pkl"


def _saved(tree, **how):
    file = BytesIO()
    torch.save(tree, file, **how)
    return file.getvalue()


STATE = OrderedDict(weight=torch.arange(6.0).view(2, 3), bias=torch.ones(2, dtype=torch.float16))
PLAIN = {"a": [1, 2.5, None, True, ("x", b"y")], "é": {"b": -(1 << 30)}}
EXAMPLES = [
    _saved({"ema": STATE, "step": 3}),
    _saved({"ema": STATE}, _use_new_zipfile_serialization=False),
    *(pickle.dumps(PLAIN, protocol) for protocol in (2, 3, 4, 5)),
]
TOKENS = [
    b"cos\nsystem\n(S'true'\ntR",
    b"\x8c\x02os\x8c\x06system\x93",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch.storage\n_load_from_bytes\n",
    b"\x8e" + b"\xff" * 8,
    b"\x8a\xff",
    *(bytes([code]) for code in b"R(t.)]}u0Qbqhe\x81\x85\x86\x87\x88\x8f\x90\x92\x93\x94"),
]


def target(data):
    PATH.write_bytes(data)
    with suppress(UsageError):
        find(read_checkpoint(PATH), {"network_kwargs": {"model_type": "SongUNet"}})
