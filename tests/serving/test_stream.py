"""MRD streams over a real socket on the loopback: images, limits, and clients that misbehave."""

import io
import socket
import struct
import threading
import time

import ismrmrd
import numpy as np
import pytest
import torch
from ismrmrd.serialization import ConfigText, ProtocolDeserializer, ProtocolSerializer
from stream_headers import header

import mrigen as mg
from mrigen import fourier
from mrigen.errors import UsageError
from mrigen.prep import ismrmrd as header_xml
from mrigen.prep.kspace.options import Options
from mrigen.reconstruction.scans import ScanSource
from mrigen.serving import messages
from mrigen.serving.server import Limits, Server, configuration
from mrigen.serving.session import Reconstructor

HEIGHT, WIDTH, COILS = 24, 16, 3
OPTIONS = Options(kernel_width=3, virtual_coils=0, noise_whitening=False)
XML = header(HEIGHT, WIDTH)
TOKEN = "0123456789abcdef"
MASK = np.isin(np.arange(WIDTH), [1, 3, 5, 6, 7, 8, 9, 10, 13, 14])


@pytest.fixture(scope="module")
def kspace():
    """Smooth coils over blocks, (slices, coils, H, W), DC in the centre."""
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    coils = np.stack([np.exp(1j * a - (y - np.sin(a)) ** 2 - (x - np.cos(a)) ** 2) for a in (0.2, 2.1, 4.4)])
    images = np.stack([(abs(y) < 0.6 + 0.1 * s) * (abs(x) < 0.7) * (1 + 0.3 * s + y) for s in range(3)])
    noise = np.random.default_rng(0).standard_normal((2, 3, COILS, HEIGHT, WIDTH)) * 1e-3
    clean = fourier.fft(torch.from_numpy(images[:, None] * coils)).numpy()
    return (clean + noise[0] + 1j * noise[1]).astype(np.complex64)


@pytest.fixture
def served():
    """Start servers; they end with the test."""
    servers = []

    def start(*, solver="cg-sense:steps=8", token=None, complex_valued=True, **limits):
        maker = Reconstructor(solver, None, OPTIONS, torch.device("cpu"), complex_valued=complex_valued)
        lines = []
        server = Server(maker, port=0, token=token, limits=Limits(**limits), log=lines.append)
        thread = threading.Thread(target=server.serve)
        thread.start()
        servers.append((server, thread))
        return server, lines

    yield start
    for server, thread in servers:
        server.stop()
        thread.join()


def line(k, number, where, last=False, **counters):
    one = ismrmrd.Acquisition.from_array(np.ascontiguousarray(k[number, :, :, where]))
    one.idx.kspace_encode_step_1, one.idx.slice, one.center_sample = where, number, HEIGHT // 2
    one.position[:] = 1.0, 2.0, 3.0 * number
    for name, value in counters.items():
        setattr(one.idx, name, value)
    if last:
        one.set_flag(ismrmrd.ACQ_LAST_IN_SLICE)
    return one


def lines_of(k, number, mask=MASK, **counters):
    where = np.flatnonzero(mask)
    return [line(k, number, w, last=w == where[-1], **counters) for w in where]


def message(*parts):
    """Bytes of messages, by the format's own package."""
    stream = io.BytesIO()
    writer = ProtocolSerializer(stream)
    for part in parts:
        if isinstance(part, bytes):
            stream.write(part)
        else:
            writer.serialize(part)
    return stream.getvalue()


HEADER = struct.pack("<HI", messages.HEADER, len(XML)) + XML
CLOSE = struct.pack("<H", messages.CLOSE)


def answers(server, sent, *, half=False):
    """What a client gets for its bytes: images and texts, until the server's close."""
    with socket.create_connection(server.address, timeout=20) as client:
        client.sendall(sent)
        if half:
            client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as stream:
            return list(ProtocolDeserializer(stream).deserialize())


def reference(k, numbers, maps=None):
    """What ``mrigen reconstruct`` makes of the same lines in memory, (x, y)."""
    from mrigen.prep.readers import Loaded

    images = []
    for number in numbers:
        own = np.where(MASK, k[number], 0)[None]
        loaded = Loaded.of(header_path(), own, header=header_xml.parse(XML), mask=MASK)
        batch = next(ScanSource(loaded, OPTIONS).batches(1)).with_sigma(None)
        images.append((mg.reconstruct(batch.data, "cg-sense", steps=8) * batch.scale)[0, 0].numpy())
    return images


def header_path():
    from pathlib import Path

    return Path("lines")


def wait_for(lines, text):
    for _ in range(200):
        if any(text in each for each in lines):
            return True
        time.sleep(0.05)
    return False


def test_headers_are_those_of_the_format():
    assert messages.LINE_HEAD.itemsize == 340
    assert messages.IMAGE_HEAD.itemsize == 198


def test_slices_come_back_as_they_are_complete_and_equal_a_reconstruction_of_the_file(served, kspace):
    server, lines = served()
    expected = reference(kspace, range(3))
    with socket.create_connection(server.address, timeout=20) as client, client.makefile("rb") as stream:
        reader = ProtocolDeserializer(stream).deserialize()
        client.sendall(message(ConfigText("default"), HEADER))
        for number in (2, 0, 1):
            client.sendall(message(*lines_of(kspace, number)))
            image = next(reader)  # before anything of the next slice is sent
            assert image.data.dtype == np.complex64
            assert image.data.shape == (1, 1, WIDTH, HEIGHT)
            assert image.slice == number
            assert image.image_type == ismrmrd.IMTYPE_COMPLEX
            assert tuple(image.position) == (1.0, 2.0, 3.0 * number)
            assert tuple(image.field_of_view) == (240.0, 160.0, 5.0)
            assert np.allclose(image.data[0, 0].T, expected[number], atol=1e-5 * abs(expected[number]).max())
        client.sendall(CLOSE)
        assert list(reader) == []
    assert wait_for(lines, "3 images")


def test_without_flags_slices_come_at_the_end_and_magnitudes_are_real(served, kspace):
    server, _ = served(complex_valued=False)
    where = np.flatnonzero(MASK)
    mixed = [line(kspace, number, w) for w in where for number in (0, 1)]
    images = answers(server, message(HEADER, *mixed, CLOSE))
    assert [image.slice for image in images] == [0, 1]
    for image, expected in zip(images, reference(kspace, (0, 1)), strict=True):
        assert image.data.dtype == np.float32
        assert np.allclose(image.data[0, 0].T, abs(expected), atol=1e-4 * abs(expected).max())


def test_repetitions_have_the_maps_of_the_first_one(served, kspace, monkeypatch):
    from mrigen.prep.kspace import pipeline

    calls = []
    made = pipeline.espirit
    monkeypatch.setattr(pipeline, "espirit", lambda *a: calls.append(1) or made(*a))
    server, _ = served()
    again = [each for r in range(3) for each in lines_of(kspace, 0, repetition=r)]
    images = answers(server, message(HEADER, *again, CLOSE))
    assert [image.repetition for image in images] == [0, 1, 2]
    assert len(calls) == 1
    assert all(np.allclose(i.data, images[0].data, atol=1e-4 * abs(images[0].data).max()) for i in images)


def test_averages_are_awaited(served, kspace):
    xml = XML.replace(
        b"</encodingLimits>", b"<average><minimum>0</minimum><maximum>1</maximum></average></encodingLimits>"
    )
    two = [each for a in range(2) for each in lines_of(kspace * (1 + 2 * a), 0, average=a)]
    server, _ = served()
    (image,) = answers(server, message(struct.pack("<HI", messages.HEADER, len(xml)) + xml, *two, CLOSE))
    expected = reference(2 * kspace, [0])[0]
    assert np.allclose(image.data[0, 0].T, expected, atol=1e-3 * abs(expected).max())


def test_noise_waveforms_and_trajectories_do_no_harm(served, kspace):
    samples = 1e-3 * np.random.default_rng(1).standard_normal((2, COILS, 400))
    noise = ismrmrd.Acquisition.from_array((samples[0] + 1j * samples[1]).astype(np.complex64))
    noise.set_flag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
    navigator = line(kspace, 0, 3)
    navigator.set_flag(ismrmrd.ACQ_IS_NAVIGATION_DATA)
    wave = ismrmrd.Waveform.from_array(np.arange(10, dtype=np.uint32).reshape(2, 5))
    one = lines_of(kspace, 0)
    one[0].resize(HEIGHT, COILS, 2)
    one[0].data[:] = kspace[0, :, :, np.flatnonzero(MASK)[0]]
    server, _ = served()
    (image,) = answers(server, message(HEADER, noise, wave, navigator, *one, CLOSE))
    assert np.isfinite(image.data).all()
    assert image.data.any()


def line_head(samples, coils):
    head = np.zeros((), messages.LINE_HEAD)
    head["number_of_samples"], head["active_channels"] = samples, coils
    return head.tobytes()


BROKEN = {
    "a number of no message": (HEADER + struct.pack("<H", 77), "a message of number 77"),
    "the middle of a message": (HEADER + struct.pack("<H", 1008) + b"12", "in the middle of a message"),
    "no close": (HEADER, "without a close message"),
    "an empty line": (HEADER + struct.pack("<H", 1008) + bytes(340), "0 coils"),
    "a line before the header": (struct.pack("<H", 1008) + line_head(1, 1) + bytes(8), "before the header"),
    "a long header": (struct.pack("<HI", 3, 1 << 31), "2147483648 bytes"),
    "a long text": (struct.pack("<HI", 5, 1 << 17), "131072 bytes"),
    "a header that is none": (struct.pack("<HI", 3, 4) + b"<a><", "not well-formed"),
    "two headers": (HEADER + HEADER, "second header"),
    "images": (struct.pack("<H", 1022) + bytes(300), "sent images"),
    "text that is none": (struct.pack("<HI", 5, 1) + b"\xff", "not UTF-8"),
    "another configuration": (struct.pack("<HI", 2, 9) + b"gridding ", "'gridding'"),
    "a setting": (struct.pack("<HI", 2, 7) + b"steps=9", "'steps'"),
    "broken JSON": (struct.pack("<HI", 2, 1) + b"{", "JSON"),
    "three dimensions": (HEADER.replace(b"<z>1<", b"<z>9<"), "9 partitions"),
    "a huge matrix": (HEADER.replace(b"<x>24<", b"<x>99<").replace(b"<y>16<", b"<y>9999<")
                      .replace(struct.pack("<I", len(XML)), struct.pack("<I", len(XML) + 4)), "too large"),
}  # fmt: skip


def test_broken_clients_get_a_line_and_harm_nobody(served, kspace):
    server, lines = served()
    for name, (sent, words) in BROKEN.items():
        before = len(lines)
        got = answers(server, sent, half=True)
        assert [type(each) for each in got] == [str], name
        assert words in got[0], name
        assert "\n" not in got[0]
        assert len(lines) == before + 1, name
        assert words in lines[-1], name
    good = answers(server, message(HEADER, *lines_of(kspace, 0), CLOSE))
    assert len(good) == 1


def test_a_bad_slice_costs_that_slice(served, kspace):
    server, lines = served()
    gaps = np.arange(WIDTH) % 2 == 1
    bad = kspace.copy()
    bad[2] = np.nan
    sent = message(HEADER, *lines_of(kspace, 0, gaps), *lines_of(bad, 2), *lines_of(kspace, 1), CLOSE)
    texts, image = (got := answers(server, sent))[:2], got[2]
    assert "slice 0" in texts[0]
    assert "fully sampled centre" in texts[0]
    assert "NaN" in texts[1]
    assert image.slice == 1
    assert wait_for(lines, "1 images")


def test_memory_is_bounded(served, kspace):
    """What a client leaves open counts with the lines' own size; coil maps make way."""
    size = HEIGHT * COILS * 8 + 1024
    server, lines = served(memory=10 * size + 100)
    assert len(answers(server, message(HEADER, *lines_of(kspace, 0), *lines_of(kspace, 1), CLOSE))) == 2
    where = np.flatnonzero(MASK)
    endless = [line(kspace, 0, w) for w in (*where, *where)]
    (text,) = answers(server, message(HEADER, *endless), half=True)
    assert "--memory" in text
    (text,) = answers(server, struct.pack("<H", 1008) + line_head(65535, 128), half=True)
    assert "does not fit" in text
    assert len(lines) == 3


def test_slow_clients_are_left(served, kspace):
    server, lines = served(timeout=0.4, connections=1)
    with socket.create_connection(server.address, timeout=20) as client:
        for byte in HEADER[:4]:  # a byte now and then is no message
            client.sendall(bytes([byte]))
            time.sleep(0.15)
        assert wait_for(lines, "no whole message in 0.4 s")
    assert len(answers(server, message(HEADER, *lines_of(kspace, 0), CLOSE))) == 1


def test_connections_are_counted_and_freed(served):
    server, lines = served(connections=1, timeout=20)
    with socket.create_connection(server.address, timeout=20) as first:
        first.sendall(HEADER)
        (text,) = answers(server, b"")
        assert "connections are in use" in text
    assert wait_for(lines, "without a close message")
    for _ in range(100):
        if answers(server, CLOSE) == []:
            break
        time.sleep(0.05)
    else:
        raise AssertionError(lines)


def test_a_token_is_asked_for(served, kspace):
    server, lines = served(token=TOKEN)
    good = message(HEADER, *lines_of(kspace, 0), CLOSE)
    name = struct.pack("<H1024s", 1, f"default token={TOKEN}".encode())
    json = message(ConfigText(f'{{"parameters": {{"config": "default", "token": "{TOKEN}"}}}}'))
    assert len(answers(server, name + good)) == 1
    assert len(answers(server, json + good)) == 1
    for before in (b"", message(ConfigText("default")), message(ConfigText(f"token={TOKEN[:-1]}"))):
        (text,) = answers(server, before + good)
        assert "token" in text
        assert TOKEN not in text
    assert not any(TOKEN in each for each in lines)


def test_other_machines_need_a_token():
    maker = Reconstructor("cg-sense", None, OPTIONS, torch.device("cpu"))
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(UsageError, match="--token-file"):
            Server(maker, host)
    with pytest.raises(UsageError, match="16 characters"):
        Server(maker, "0.0.0.0", token="short")
    with pytest.raises(UsageError, match="cannot listen"):
        Server(maker, "192.0.2.1", 0, token=TOKEN)


def test_solvers_are_refused_before_any_client():
    for words, fault in (("dds", "needs a teacher"), ("nothing", "nothing"), ("cg-sense:stepz=1", "stepz")):
        with pytest.raises(UsageError, match=fault):
            Reconstructor(words, None, OPTIONS, torch.device("cpu"))


def test_configurations():
    assert configuration("") == {}
    assert configuration("mrigen token=a=b") == {"config": "mrigen", "token": "a=b"}
    assert configuration('{"version": "1", "parameters": {"config": "x"}}') == {"config": "x"}
    with pytest.raises(UsageError, match="object"):
        configuration('{"parameters": 3}')


def test_warm_up_needs_no_data():
    Reconstructor("cg-sense:steps=2", None, OPTIONS, torch.device("cpu")).warm_up()
