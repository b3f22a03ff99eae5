"""Pickles that try to run something, to exhaust the machine, or to confuse the reader.

Every case is bytes. Those that would run code, would make the file named by ``CANARY``.
"""

import pickle
import struct
import zipfile

from zips import archive

CANARY = "canary-of-mrigen"
TOUCH = f"touch {CANARY}"
PYTHON = f"open({CANARY!r}, 'w').close()"


def text(value):
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def name(module, attribute):
    return text(module) + text(attribute) + b"\x93"


def call(module, attribute, *arguments):
    """Opcodes that call a name with opcodes of arguments."""
    return name(module, attribute) + b"(" + b"".join(arguments) + b"tR"


def number(value):
    data = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def binary(value):
    return b"B" + struct.pack("<I", len(value)) + value


def pickled(body):
    return b"\x80\x04" + body + b"."


def weights(body):
    """The same where weights are expected."""
    return pickled(b"}" + text("ema") + body + b"s")


def storage(count=4, data=b"", kind="FloatStorage", key="0", location="cpu"):
    """A storage in the format of old torch.save, as plain pickles nest it."""
    identity = (
        b"("
        + text("storage")
        + f"ctorch\n{kind}\n".encode()
        + text(key)
        + text(location)
        + number(count)
        + b"Nt"
    )
    head = [
        pickled(number(0x1950A86A20F9469CFC6C)),
        pickled(number(1001)),
        pickled(b"}" + text("little_endian") + b"\x88s"),
    ]
    body = [pickled(identity + b"Q"), pickled(b"]" + text(key) + b"a")]
    return b"".join(head + body) + struct.pack("<q", count) + (data or b"\0" * 16)


def tensor(shape=(2, 2), strides=(2, 1), offset=0, nested=None):
    def numbers(values):
        return b"(" + b"".join(map(number, values)) + b"t"

    stored = call("torch.storage", "_load_from_bytes", binary(storage() if nested is None else nested))
    arguments = (
        stored,
        number(offset),
        numbers(shape),
        numbers(strides),
        b"\x89",
        call("collections", "OrderedDict"),
    )
    return call("torch._utils", "_rebuild_tensor_v2", *arguments)


def persistent(class_name, state):
    meta = (
        b"}(" + text("type") + text("class") + text("version") + b"K\x06" + text("module_src") + text(PYTHON)
    )
    meta += text("class_name") + text(class_name) + text("state") + state + b"u"
    return call("torch_utils.persistence", "_reconstruct_persistent_obj", meta)


class Reduce:
    def __init__(self, function, *arguments):
        self.result = function, arguments

    def __reduce__(self):
        return self.result


def exponential(levels):
    """A module whose child is twice the same module, and so on."""
    body = b"}q\x00"
    for _ in range(levels):
        module = call("torch.nn.modules.container", "ModuleDict")
        children = b"}(" + text("a") + b"h\x00" + text("b") + b"h\x00u"
        body += module + b"}" + text("_modules") + children + b"sbq\x00"
    return weights(
        persistent(
            "EDMPrecond",
            b"}("
            + text("_init_args")
            + b")"
            + text("_init_kwargs")
            + b"}"
            + text("_modules")
            + b"}("
            + text("model")
            + body
            + persistent(
                "SongUNet",
                b"}("
                + text("_init_args")
                + b")"
                + text("_init_kwargs")
                + b"}"
                + text("_modules")
                + b"}"
                + text("x")
                + b"h\x00su",
            )
            + b"uu",
        )
    )


def running():
    """What would run something in Python's own unpickler."""
    yield "os.system", weights(call("os", "system", text(TOUCH)))
    yield "posix.system", weights(call("posix", "system", text(TOUCH)))
    yield "eval", weights(call("builtins", "eval", text(PYTHON)))
    yield "exec", weights(call("builtins", "exec", text(PYTHON)))
    yield "exec of python 2", weights(call("__builtin__", "eval", text(PYTHON)))
    yield "subprocess", weights(call("subprocess", "getoutput", text(TOUCH)))
    yield "runpy", weights(call("runpy", "run_path", text("x.py")))
    yield "import", weights(call("builtins", "__import__", text("os")))
    yield "getattr", weights(call("builtins", "getattr", name("builtins", "list"), text("append")))
    yield "torch.load", weights(call("torch", "load", text("x")))
    yield "torch.hub", weights(call("torch.hub", "load", text("x"), text("y")))
    yield "torch.jit", weights(call("torch.jit", "load", text("x")))
    yield "numpy.load", weights(call("numpy", "load", text("x")))
    yield "pickle.loads", weights(call("pickle", "loads", binary(b"x")))
    yield "partial", weights(call("functools", "partial", name("os", "system"), text(TOUCH)))
    yield "reduce", pickle.dumps({"ema": Reduce(eval, PYTHON)})
    yield "chain of reduces", pickle.dumps({"ema": Reduce(getattr, Reduce(__import__, "os"), "getpid")})
    yield "protocol 0", f"cos\nsystem\n(S'{TOUCH}'\ntR.".encode()
    yield "instance opcode", f"(S'{TOUCH}'\nios\nsystem\n.".encode()
    yield "object opcode", b"(" + name("os", "system") + text(TOUCH) + b"o."
    yield "extension", b"\x80\x02\x82\x01."
    yield "dotted name", weights(call("torch.storage", "_load_from_bytes.__globals__"))
    yield "dotted module", weights(call("os.path", "os.system", text(TOUCH)))
    yield "name from data", weights(b"(" + text("os") + text("system") + b"t" + b"\x93")
    yield "nested", weights(tensor(nested=pickled(call("os", "system", text(TOUCH)))))
    yield "nested twice", weights(tensor(nested=pickled(tensor(nested=pickled(tensor())))))
    yield (
        "nested zip",
        weights(tensor(nested=archive({"a/data.pkl": pickled(call("os", "system", text(TOUCH)))}))),
    )
    yield "zip", archive({"archive/data.pkl": pickled(call("os", "system", text(TOUCH)))})
    yield "torchscript", archive({"archive/data.pkl": pickled(b"}"), "archive/constants.pkl": b"x"})
    yield (
        "old torch.save",
        pickled(number(0x1950A86A20F9469CFC6C)) + pickled(call("os", "system", text(TOUCH))),
    )
    yield (
        "build with setstate",
        weights(call("collections", "OrderedDict") + b"(" + text("__setstate__") + text(PYTHON) + b"tb"),
    )
    yield (
        "build on a function",
        weights(name("collections", "OrderedDict") + b"}" + text("build") + text("x") + b"sb"),
    )
    yield "build on a list", weights(b"]}" + text("__class__") + text("x") + b"sb")
    yield "calling data", weights(text("eval") + b"(" + text(PYTHON) + b"tR")
    yield "calling a record", weights(call("torch.nn.modules.container", "ModuleDict") + b")R")
    yield "calling a type", weights(name("torch", "FloatStorage") + b")R")
    yield "new object of a function", weights(name("os", "system") + b"(" + text(TOUCH) + b"t\x81")
    yield "keyword arguments", weights(name("collections", "OrderedDict") + b")}" + text("a") + b"Ns\x92")
    yield "unknown class", weights(persistent("Backdoor", b"}"))
    yield "persistent id", weights(text("os.system") + b"Q")
    yield "persistent id of a file", weights(b"(" + text("storage") + text("/etc/passwd") + b"tQ")


def exhausting():
    """What would take all memory or time, or overflow the stack."""
    huge = struct.pack("<Q", 1 << 62)
    yield "bytes of 4 EiB", b"\x80\x04\x8e" + huge + b"x."
    yield "text of 4 EiB", b"\x80\x04\x8d" + huge + b"x."
    yield "bytearray of 4 EiB", b"\x80\x05\x96" + huge + b"x."
    yield "bytes of 4 GiB", b"\x80\x04B" + b"\xff" * 4 + b"x."
    yield "text of 5 MiB", weights(text("x" * (5 << 20)))
    yield "memo index", b"\x80\x04Nr\xff\xff\xff\xff."
    yield "missing memo", b"\x80\x04j\xff\xff\xff\xff."
    yield "frame", b"\x80\x04\x95" + huge + b"cos\nsystem\n."
    yield "deep lists", b"\x80\x04" + b"]" * 300_000 + b"a" * 299_999 + b"."
    yield "deep marks", b"\x80\x04" + b"(" * 300_000 + b"t" * 300_000 + b"."
    yield "deep tuples as a key", b"\x80\x04}" + b")" + b"\x85" * 300_000 + b"Ns."
    yield "deep tuples in a set", b"\x80\x04\x8f(" + b")" + b"\x85" * 300_000 + b"\x90."
    yield "endless", b"\x80\x04" + b"N0" * 1_000_000 + b"."
    yield "many objects", b"\x80\x04" + b"}" * 900_000 + b"."
    yield (
        "many kept objects",
        b"\x80\x04]" + b"(" + b"\x8f" * 90_000 + b"e" + (b"(" + b"\x8f" * 90_000 + b"e") * 9 + b".",
    )
    yield "doubling lists", weights(b"]q\x00" + b"]q\x01(h\x00h\x00eq\x00" * 200)
    yield (
        "copies of a dictionary",
        b"\x80\x04}("
        + b"".join(number(i) + b"N" for i in range(40_000))
        + b"uq\x00"
        + (name("collections", "OrderedDict") + b"h\x00\x85R") * 5_000
        + b".",
    )
    yield (
        "copies of a set",
        b"\x80\x04]("
        + b"".join(number(i) for i in range(90_000))
        + b"eq\x00"
        + (name("builtins", "set") + b"h\x00\x85R") * 5_000
        + b".",
    )
    yield (
        "copies of bytes",
        b"\x80\x04"
        + text("x" * (1 << 20))
        + b"q\x00"
        + (name("_codecs", "encode") + b"h\x00" + text("latin1") + b"\x86R") * 5_000
        + b".",
    )
    yield (
        "colliding keys",
        b"\x80\x04}(" + b"".join(number(i * (2**61 - 1)) + b"N" for i in range(50_000)) + b"u.",
    )
    yield (
        "cyclic module",
        weights(
            persistent(
                "EDMPrecond",
                b"}q\x00("
                + text("_init_args")
                + b")"
                + text("_init_kwargs")
                + b"}"
                + text("_modules")
                + b"h\x00u",
            )
        ),
    )
    yield "exponential modules", exponential(60)
    yield "tensor of 2^80 elements", weights(tensor((1 << 40, 1 << 40), (0, 0)))
    yield "expanded tensor", weights(tensor((1 << 30,), (0,)))
    yield "tensor beyond its storage", weights(tensor((3, 3), (3, 1)))
    yield "negative offset", weights(tensor(offset=-1))
    yield "negative shape", weights(tensor((-2, -2)))
    yield "shape of thousands", weights(tensor((1,) * 5000, (1,) * 5000))
    yield "storage of 2^60 numbers", weights(tensor(nested=storage(1 << 60)))
    yield "negative storage", weights(tensor(nested=storage(-1)))
    yield "storage cut off", weights(tensor(nested=storage(1000)))
    yield (
        "many nested archives",
        pickled(
            binary(archive({f"a/{i}": b"" for i in range(20_000)} | {"a/data.pkl": pickled(b"}")}))
            + b"q\x00"
            + (name("torch.storage", "_load_from_bytes") + b"h\x00\x85R") * 20_000
        ),
    )
    bomb = archive(
        {"archive/data.pkl": pickled(b"}"), "archive/data/0": b"\0" * (64 << 20)}, zipfile.ZIP_DEFLATED
    )
    yield "zip bomb", bomb
    yield (
        "huge zip directory",
        archive({"archive/data.pkl": pickled(b"}")} | {f"archive/{i:040}": b"" for i in range(40_000)}),
    )


def confusing():
    """Damaged files, and messages that try to break out of their line."""
    yield "empty", b""
    yield "noise", bytes(range(256)) * 8
    yield "text", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    yield "html", b"<!DOCTYPE html><html>404</html>"
    yield "nothing but a stop", b"."
    yield "empty stack", b"\x80\x040."
    yield "newline in a name", weights(call("os\nmrigen: all is well\x1b[31m", "system"))
    yield "newline in a key", pickled(b"}" + text("weights\nmrigen: fine") + b"Ns")
    yield "newline in a class", weights(persistent("X\nmrigen: fine", b"}"))
    yield "surrogates", pickled(b"}" + text("\ud800\udfff") + b"Ns")
    yield "no text as a name", weights(b"NN\x93")
    yield "append to a dictionary", b"\x80\x04}Na."
    yield "item in a list", b"\x80\x04]NNs."
    yield "odd dictionary", b"\x80\x04}(Nu."
    yield "list as a key", b"\x80\x04}]Ns."
    yield "float as a key", b"\x80\x04}G" + struct.pack(">d", 1.5) + b"Ns."
    yield (
        "tensor of text",
        weights(call("torch._utils", "_rebuild_tensor_v2", text("x"), number(0), b")", b")", b"\x89", b"N")),
    )
    yield "tensor without arguments", weights(call("torch._utils", "_rebuild_tensor_v2"))
    yield "parameter of text", weights(call("torch._utils", "_rebuild_parameter", text("x"), b"\x88", b"N"))
    yield (
        "persistent without a meta",
        weights(call("torch_utils.persistence", "_reconstruct_persistent_obj", b"N")),
    )
    yield "zip without pickle", archive({"readme.txt": b"hello"})
    yield "zip with two pickles", archive({"a/data.pkl": b"", "b/data.pkl": b""})
    yield "zip cut off", archive({"archive/data.pkl": pickled(b"}")})[:-30]
    yield "zip of another order", archive({"archive/data.pkl": pickled(b"}"), "archive/byteorder": b"big"})
    identity = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("7") + text("cpu") + b"K\x04tQ"
    yield "zip without its storage", archive({"archive/data.pkl": pickled(identity)})
    yield (
        "zip with a short storage",
        archive({"archive/data.pkl": pickled(identity), "archive/data/7": b"\0" * 8}),
    )


CASES = {
    f"{kind.__name__}: {title}": data for kind in (running, exhausting, confusing) for title, data in kind()
}
