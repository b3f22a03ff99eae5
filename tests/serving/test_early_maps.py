"""Coil maps of a slice that is still being streamed: when they are computed, and that images are the same."""

import socket
import struct
import threading

import numpy as np
import pytest
import torch
from stream_headers import header

from mrigen import fourier
from mrigen.errors import UsageError
from mrigen.prep.kspace import pipeline
from mrigen.prep.kspace.options import Options
from mrigen.prep.readers.mrd import CALIBRATION, CALIBRATION_AND_IMAGE, NOISE
from mrigen.serving import messages
from mrigen.serving.server import Server
from mrigen.serving.session import LAST_IN_SLICE, Reconstructor, Session

HEIGHT, WIDTH, COILS = 24, 20, 3
CENTRE = list(range(7, 13))
OUTSIDE = [1, 3, 14, 17, 18]
OPTIONS = Options(kernel_width=3, virtual_coils=0, noise_whitening=False)
XML = header(HEIGHT, WIDTH)
ASCENDING = sorted([*CENTRE, *OUTSIDE])
ORDERS = {
    "ascending": ASCENDING,
    "descending": ASCENDING[::-1],
    "centric": sorted(ASCENDING, key=lambda w: abs(2 * w - WIDTH + 1)),
    "calibration first": [*CENTRE, *OUTSIDE],
}


@pytest.fixture(scope="module")
def kspace():
    """Smooth coils over a block with noise, (coils, H, W)."""
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    coils = np.stack([np.exp(1j * a - (y - np.sin(a)) ** 2 - (x - np.cos(a)) ** 2) for a in (0.2, 2.1, 4.4)])
    noise = np.random.default_rng(0).standard_normal((2, COILS, HEIGHT, WIDTH)) * 1e-2
    clean = fourier.fft(torch.from_numpy((abs(y) < 0.7) * (abs(x) < 0.6) * (1 + y) * coils)).numpy()
    return (clean + noise[0] + 1j * noise[1]).astype(np.complex64)


@pytest.fixture
def calls(monkeypatch):
    """How often ESPIRiT ran."""
    made, counted = pipeline.espirit, []
    monkeypatch.setattr(pipeline, "espirit", lambda *a: counted.append(1) or made(*a))
    return counted


def line(k, where, flags=(), **counters):
    head = np.zeros((), messages.LINE_HEAD)
    head["active_channels"], head["number_of_samples"], head["center_sample"] = COILS, HEIGHT, HEIGHT // 2
    head["flags"] = sum(1 << (flag - 1) for flag in flags)
    for name, value in {"kspace_encode_step_1": where, **counters}.items():
        head["idx"][name] = value
    return messages.Line(head, np.ascontiguousarray(k[..., where]))


def session(options=OPTIONS, memory=1 << 20, xml=XML, solver="cg-sense:steps=4"):
    made = Session(Reconstructor(solver, None, options, torch.device("cpu"), complex_valued=True), memory)
    made.start(xml)
    return made


def streamed(lines, monkeypatch=None, **settings):
    """Images of a session's keys; with ``monkeypatch`` all maps wait for the last line."""
    if monkeypatch is not None:
        monkeypatch.setattr(Reconstructor, "calibrated_by", lambda *_: False)
    one, made = session(**settings), []
    for each in lines:
        made += [one.image(key)[1] for key in one.add(each)]
    return made + [one.image(key)[1] for key in one.rest()]


def ended(k, order, **counters):
    """Lines of a slice in an order, the last one flagged."""
    return [line(k, w, (LAST_IN_SLICE,) if w == order[-1] else (), **counters) for w in order]


@pytest.mark.parametrize("name", ORDERS)
def test_maps_of_the_calibration_lines_give_the_same_image(kspace, calls, monkeypatch, name):
    order = ORDERS[name]
    one = session()
    for each in ended(kspace, order)[:-1]:
        assert one.add(each) == []
    assert len(calls) == 1  # before the last line
    ((key,), early) = one.add(ended(kspace, order)[-1]), one._early
    assert len(early) == 1
    image = one.image(key)[1]
    assert len(calls) == 1
    (late,) = streamed(ended(kspace, order), monkeypatch)
    assert len(calls) == 2
    assert np.array_equal(image, late)
    assert np.isfinite(image).all()
    assert image.any()


@pytest.mark.parametrize(
    "change",
    [
        {"virtual_coils": 2},
        {"phase": "acs"},
        {"acs_lines": 5},
        {"noise_whitening": True},  # from the image's corner, so that all lines change the centre
    ],
    ids=str,
)
def test_options_of_the_preparation_leave_images_equal(kspace, monkeypatch, change):
    options = OPTIONS.model_copy(update=change)
    (early,) = streamed(ended(kspace, ASCENDING), options=options)
    (late,) = streamed(ended(kspace, ASCENDING), monkeypatch, options=options)
    assert np.array_equal(early, late)


def test_a_noise_scan_whitens_both(kspace, calls, monkeypatch):
    samples = np.random.default_rng(1).standard_normal((2, COILS, HEIGHT, WIDTH))
    scan = [line((samples[0] + 1j * samples[1]).astype(np.complex64), w, (NOISE,)) for w in range(WIDTH)]
    options = OPTIONS.model_copy(update={"noise_whitening": True})
    (early,) = streamed([*scan, *ended(kspace, ASCENDING)], options=options)
    assert len(calls) == 1
    (late,) = streamed([*scan, *ended(kspace, ASCENDING)], monkeypatch, options=options)
    assert np.array_equal(early, late)


def test_lines_that_change_the_centre_later_count(kspace, calls, monkeypatch):
    """A centre that grows or is measured again, and averages: maps are those of all lines."""
    grown = [*CENTRE[1:], *OUTSIDE, CENTRE[0]]
    twice = [*ended(kspace, ASCENDING)[:-1], line(2 * kspace, 9), ended(kspace, ASCENDING)[-1]]
    xml = XML.replace(
        b"</encodingLimits>", b"<average><minimum>0</minimum><maximum>1</maximum></average></encodingLimits>"
    )
    averages = [each for a in range(2) for each in ended(kspace * (1 + a), ASCENDING, average=a)]
    counts = []
    for lines, settings in ((ended(kspace, grown), {}), (twice, {}), (averages, {"xml": xml})):
        before = len(calls)
        (early,) = streamed(lines, **settings)
        counts.append(len(calls) - before)
        with monkeypatch.context() as patch:
            (late,) = streamed(lines, patch, **settings)
        assert np.array_equal(early, late)
    assert counts == [2, 2, 1]


def test_contrasts_that_alternate_have_the_maps_of_the_first_complete_one(kspace, calls, monkeypatch):
    pair = [ended(kspace * (1 + c), ASCENDING, contrast=c) for c in range(2)]
    mixed = [each for both in zip(*pair, strict=True) for each in both]
    swapped = [
        *mixed[:-2],
        *mixed[:-3:-1],
    ]  # the second one is complete first, and its maps were not computed
    early = [streamed(lines) for lines in (mixed, swapped)]
    assert len(calls) == 1 + 2
    late = [streamed(lines, monkeypatch) for lines in (mixed, swapped)]
    assert all(np.array_equal(a, b) for i in range(2) for a, b in zip(early[i], late[i], strict=True))


def test_flags_and_the_header_say_which_lines_calibrate(kspace, calls):
    """Lines that are flagged announce more of them; those of a separate scan are no part of the image."""
    flagged = [line(kspace, w, (CALIBRATION_AND_IMAGE,)) for w in (8, 9, 10, 11, 14, 7, 12)]
    one = session()
    for each in flagged:
        one.add(each)
    assert not calls
    one.add(line(kspace, 17))
    assert len(calls) == 1
    mode = b"<parallelImaging><calibrationMode>separate</calibrationMode></parallelImaging></encoding>"
    one = session(xml=XML.replace(b"</encoding>", mode))
    for each in (*(line(kspace, w, (CALIBRATION,)) for w in CENTRE), *ended(kspace, ASCENDING)[:8]):
        one.add(each)
    assert len(calls) == 1
    one.add(line(kspace, 14))
    assert len(calls) == 2


def test_known_numbers_of_lines_need_no_further_line(kspace, calls):
    one = session(OPTIONS.model_copy(update={"acs_lines": 5}))
    for each in (line(kspace, w) for w in range(8, 12)):
        one.add(each)
    assert not calls
    one.add(line(kspace, 12))
    assert len(calls) == 1


def test_early_maps_make_way_for_lines(kspace, calls, monkeypatch):
    size, maps = HEIGHT * COILS * 8 + 1024, 8 * COILS * HEIGHT * (WIDTH + len(CENTRE))
    for memory, kept in ((9 * size + maps - 1, 0), (9 * size + maps, 1), (11 * size + maps, 1)):
        one = session(memory=memory)
        lines = ended(kspace, ASCENDING)
        for each in lines[:9]:  # the first one beyond the centre is the ninth
            one.add(each)
        assert len(one._early) == kept
        for each in lines[9:]:
            one.add(each)
            assert one.room >= sum(early.nbytes for early in one._early.values())
        assert len(one._early) == (memory >= 11 * size + maps)
        image = one.image((0, 0, 0, 0, 0))[1]
        with monkeypatch.context() as patch:
            assert np.array_equal(image, streamed(lines, patch)[0])
        assert not one._early
        assert not one._steps


def test_a_broken_calibration_is_said_with_the_last_line(kspace):
    bad = kspace.copy()
    bad[:, 3, 9] = np.nan
    one = session()
    for each in ended(bad, ASCENDING)[:-1]:
        one.add(each)
    (key,) = one.add(ended(bad, ASCENDING)[-1])
    with pytest.raises(UsageError, match="NaN"):
        one.image(key)


def test_maps_are_ready_before_the_last_line_is_sent(kspace, monkeypatch):
    """The client waits for the maps with its last line in hand, so that the order cannot be another one."""
    made, events, ready = pipeline.espirit, [], threading.Event()

    def recorded(*arguments):
        maps = made(*arguments)
        events.append("maps")
        ready.set()
        return maps

    monkeypatch.setattr(pipeline, "espirit", recorded)
    server = Server(Reconstructor("cg-sense:steps=4", None, OPTIONS, torch.device("cpu")), port=0)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        with socket.create_connection(server.address, timeout=20) as client, client.makefile("rb") as stream:
            client.sendall(struct.pack("<HI", messages.HEADER, len(XML)) + XML)
            parts = [
                struct.pack("<H", messages.ACQUISITION) + each.head.tobytes() + each.samples.tobytes()
                for each in ended(kspace, ASCENDING)
            ]
            client.sendall(b"".join(parts[:-1]))
            assert ready.wait(20)
            events.append("last line")
            client.sendall(parts[-1])
            assert struct.unpack("<H", stream.read(2)) == (messages.IMAGE,)
            events.append("image")
            client.sendall(struct.pack("<H", messages.CLOSE))
            stream.read()
    finally:
        server.stop()
        thread.join()
    assert events == ["maps", "last line", "image"]
