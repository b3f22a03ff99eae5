"""Files as the EDM, Ambient and SiD codes write them, made from models of known weights."""

import io
import pickle
import sys
import types
from contextlib import contextmanager

import torch
from safetensors.torch import save

from mrigen.checkpoints.export import released_weights
from mrigen.networks import NETWORKS, PRECONDITIONERS

SONG = {
    "resolution": 8,
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 8,
    "channel_mult": (1, 2),
    "num_blocks": 1,
    "attn_resolutions": (4,),
    "dropout": 0.1,
}
CLASSES = {"song-unet": "SongUNet", "dhariwal-unet": "DhariwalUNet"}
PRECONDS = {"edm": "EDMPrecond", "vp": "VPPrecond", "ve": "VEPrecond", "iddpm": "iDDPMPrecond"}


def make_model(name="song-unet", precond="edm", seed=0, **config):
    """A model with random weights, its frozen parts included."""
    torch.manual_seed(seed)
    network = NETWORKS.build({"name": name, **SONG, **config})
    model = PRECONDITIONERS.build({"name": precond}, network=network).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def released_state(model):
    """Released names to tensors."""
    return released_weights(model)


def assert_same(model, imported):
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(imported.state_dict()[name], tensor, rtol=0, atol=0, msg=name)


@contextmanager
def persistence():
    """The module that EDM's pickles name; whoever calls its function fails the test."""

    def reconstruct(meta):
        raise AssertionError("the embedded object was reconstructed")

    package, module = types.ModuleType("torch_utils"), types.ModuleType("torch_utils.persistence")
    reconstruct.__module__, reconstruct.__qualname__ = (
        "torch_utils.persistence",
        "_reconstruct_persistent_obj",
    )
    module._reconstruct_persistent_obj = reconstruct
    before = {name: sys.modules.get(name) for name in ("torch_utils", "torch_utils.persistence")}
    sys.modules |= {"torch_utils": package, "torch_utils.persistence": module}
    try:
        yield module
    finally:
        for name, old in before.items():
            if old is None:
                del sys.modules[name]
            else:
                sys.modules[name] = old


class PersistentObject:
    """Pickles as an object of EDM's persistence does."""

    def __init__(self, class_name, **state):
        self.class_name, self.contents = class_name, state

    def __reduce__(self):
        meta = {
            "type": "class",
            "version": 6,
            "module_src": 'raise RuntimeError("embedded source was executed")\n',
            "class_name": self.class_name,
            "state": self.contents,
        }
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,)


def module(class_name, tensors, buffers=(), args=(), kwargs=None, children=None):
    """A pickled module: its own tensors, children by name, constructor arguments."""
    return PersistentObject(
        class_name,
        training=False,
        _parameters={
            k: None if v is None else torch.nn.Parameter(v) for k, v in tensors.items() if k not in buffers
        },
        _buffers={k: v for k, v in tensors.items() if k in buffers},
        _non_persistent_buffers_set=set(),
        _modules=children or {},
        _init_args=args,
        _init_kwargs=kwargs or {},
    )


def module_tree(model, class_name=None, args=(), kwargs=None, network_kwargs=None):
    """The pickled module of a preconditioned network, nested as torch nests them."""
    network = CLASSES[type(model.network).__name__.replace("UNet", "-unet").lower()]
    params = model.network.params.model_dump()
    params["img_resolution"] = params.pop("resolution")
    for ours in ("patch",) + (() if params["gated"] else ("gated",)):
        params.pop(ours)
    params = {k: list(v) if isinstance(v, tuple) else v for k, v in params.items()}
    if network_kwargs is not None:
        params = network_kwargs
    tree = {}
    for name, tensor in released_state(model).items():
        *path, leaf = name.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = tensor

    def build(node, class_name, args=(), kwargs=None):
        tensors = {k: v for k, v in node.items() if isinstance(v, torch.Tensor)}
        children = {k: build(v, "Any") for k, v in node.items() if isinstance(v, dict)}
        return module(class_name, tensors, {"resample_filter", "freqs", "u"}, args, kwargs, children)

    inner = build(tree["model"], network, (), params)
    precond = {k: v for k, v in tree.items() if isinstance(v, torch.Tensor)}
    kind = next(k for k in PRECONDS if isinstance(model, PRECONDITIONERS[k]))
    if kwargs is None and not args:
        kwargs = {
            "img_resolution": 8,
            "img_channels": 3,
            "label_dim": params.get("label_dim", 0),
            "use_fp16": True,
        }
    return module(class_name or PRECONDS[kind], precond, {"u"}, args, kwargs, {"model": inner})


def pickled(content):
    """``pickle.dump`` with the persistence module in place."""
    with persistence():
        return pickle.dumps(content, protocol=4)


def saved(content, *, zipped=True):
    """``torch.save`` with the persistence module in place."""
    buffer = io.BytesIO()
    with persistence():
        torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def safetensors(state):
    """A safetensors file of a state_dict."""
    return save({name: tensor.contiguous() for name, tensor in state.items()})


def options(model, **sections):
    """training_options.json of a model."""
    params = model.network.params.model_dump(mode="json")
    for key in ("resolution", "in_channels", "out_channels", "label_dim", "augment_dim", "patch"):
        params.pop(key)
    if not params["gated"]:
        params.pop("gated")
    kind = next(k for k in PRECONDS if isinstance(model, PRECONDITIONERS[k]))
    network = CLASSES[type(model.network).__name__.replace("UNet", "-unet").lower()]
    return {
        "network_kwargs": params
        | {"model_type": network, "class_name": f"training.networks.{PRECONDS[kind]}", "use_fp16": True},
        **sections,
    }
