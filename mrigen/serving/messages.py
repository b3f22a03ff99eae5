"""ISMRMRD's messages on a socket, every one bounded in size and in time.

The protocol of the MRD servers (Inati et al., ISMRM Raw data format, Magn Reson Med 77 (2017); its document
"MRD message types"): a 16-bit number of the message, then what belongs to it, little-endian.

======  ==============  ==================================================================================
number  message         content
======  ==============  ==================================================================================
1       config file     name, 1024 bytes, padded with zeros
2       config text     32-bit length, text
3       header          32-bit length, XML
4       close           nothing: no further messages
5       text            32-bit length, text: a line for people
1008    acquisition     header of 340 bytes, trajectory, samples: complex64 (coils, samples)
1022    image           header of 198 bytes, 64-bit length, attributes, pixels (channels, z, y, x)
1026    waveform        header of 40 bytes, values of 32 bits
======  ==============  ==================================================================================
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigen.errors import UsageError, one_line
from mrigen.prep import ismrmrd

CONFIG_FILE, CONFIG_TEXT, HEADER, CLOSE, TEXT = 1, 2, 3, 4, 5
ACQUISITION, IMAGE, WAVEFORM = 1008, 1022, 1026
NAME_BYTES, TEXT_BYTES = 1024, 1 << 16
WAVEFORM_BYTES, AT_ONCE = 1 << 24, 1 << 16
MOST_DIMENSIONS, MOST_COILS = 3, 128
FLOAT, COMPLEX_FLOAT = 5, 7
MAGNITUDE, COMPLEX = 1, 5

_PLACE = [(name, "<f4", 3) for name in ("position", "read_dir", "phase_dir", "slice_dir")]
_TABLE = ("patient_table_position", "<f4", 3)
_STEPS = ("kspace_encode_step_1", "kspace_encode_step_2")
_COUNTERS = ("average", "slice", "contrast", "phase", "repetition", "set")
LINE_HEAD = np.dtype(
    [
        *(("version", "<u2"), ("flags", "<u8"), ("measurement_uid", "<u4"), ("scan_counter", "<u4")),
        *(("acquisition_time_stamp", "<u4"), ("physiology_time_stamp", "<u4", 3)),
        *((n, "<u2") for n in ("number_of_samples", "available_channels", "active_channels")),
        ("channel_mask", "<u8", 16),
        *((n, "<u2") for n in ("discard_pre", "discard_post", "center_sample")),
        *(("encoding_space_ref", "<u2"), ("trajectory_dimensions", "<u2"), ("sample_time_us", "<f4")),
        *(*_PLACE, _TABLE),
        ("idx", [*((n, "<u2") for n in (*_STEPS, *_COUNTERS, "segment")), ("user", "<u2", 8)]),
        *(("user_int", "<i4", 8), ("user_float", "<f4", 8)),
    ]
)
"""An acquisition's header, 340 bytes without gaps."""
IMAGE_HEAD = np.dtype(
    [
        *(("version", "<u2"), ("data_type", "<u2"), ("flags", "<u8"), ("measurement_uid", "<u4")),
        *(("matrix_size", "<u2", 3), ("field_of_view", "<f4", 3), ("channels", "<u2")),
        *(*_PLACE, _TABLE),
        *((n, "<u2") for n in _COUNTERS),
        *(("acquisition_time_stamp", "<u4"), ("physiology_time_stamp", "<u4", 3)),
        *((n, "<u2") for n in ("image_type", "image_index", "image_series_index")),
        *(("user_int", "<i4", 8), ("user_float", "<f4", 8), ("attribute_string_len", "<u4")),
    ]
)
"""An image's header, 198 bytes without gaps."""
_COPIED = {"version", "measurement_uid", "acquisition_time_stamp", "physiology_time_stamp", "user_int",
           "user_float", *(entry[0] for entry in (*_PLACE, _TABLE))}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Line:
    """A readout.

    Attributes:
        head: its header, a record of ``LINE_HEAD``.
        samples: complex64 (coils, samples).
    """

    head: Any
    samples: NDArray[np.complex64]


class Wire:
    """A connection.

    Args:
        connection: the socket.
        timeout: seconds in which a message must have come, or have been taken, as a whole.
    """

    def __init__(self, connection: socket.socket, timeout: float) -> None:
        self._socket = connection
        self._timeout = timeout
        self._deadline = 0.0

    def receive(self, room: int) -> tuple[int, Any]:
        """The next message: its number, and a text, the header's bytes, a ``Line`` or None.

        Args:
            room: bytes of samples that can still be kept.

        Raises:
            UsageError: a message that is unknown, too large or damaged, or the end without a close message.
            TimeoutError: the message did not come in time.
            OSError: the connection broke.
        """
        self._deadline = time.monotonic() + self._timeout
        (number,) = struct.unpack("<H", self._read(2))
        if number == CONFIG_FILE:
            return number, _text(self._read(NAME_BYTES).partition(b"\0")[0])
        if number in {CONFIG_TEXT, TEXT}:
            return number, _text(self._counted(TEXT_BYTES).rstrip(b"\0"))
        if number == HEADER:
            return number, self._counted(ismrmrd.MAX_BYTES).rstrip(b"\0")
        if number == CLOSE:
            return number, None
        if number == ACQUISITION:
            return number, self._line(room)
        if number == WAVEFORM:
            samples, channels = struct.unpack("<HH", self._read(40)[28:32])
            self._skip(4 * samples * channels, "a waveform")
            return number, None
        what = "images, and takes acquisitions" if number == IMAGE else f"a message of number {number}"
        raise UsageError(f"the client sent {what}; send config, header, acquisitions, waveforms, close")

    def _line(self, room: int) -> Line:
        head = np.frombuffer(self._read(LINE_HEAD.itemsize), LINE_HEAD)[0]
        samples, coils = int(head["number_of_samples"]), int(head["active_channels"])
        dimensions = int(head["trajectory_dimensions"])
        if dimensions > MOST_DIMENSIONS or not samples or not 0 < coils <= MOST_COILS:
            raise UsageError(
                f"an acquisition of {coils} coils, {samples} samples and {dimensions} dimensions of "
                "trajectory; is the client's byte order or version another one?"
            )
        if 8 * samples * coils > room:
            raise UsageError(
                f"an acquisition of {coils} coils and {samples} samples does not fit beside what was "
                "received; close slices with the flag LAST_IN_SLICE, or start the server with more --memory"
            )
        self._skip(4 * samples * dimensions, "a trajectory")
        values = np.frombuffer(self._read(8 * samples * coils), "<c8").astype(np.complex64, copy=False)
        return Line(head, values.reshape(coils, samples))

    def send_image(self, head: Any, pixels: NDArray[Any]) -> None:
        """Send an image without attributes: header and pixels (y, x), float32 or complex64."""
        parts = (struct.pack("<H", IMAGE), head.tobytes(), struct.pack("<Q", 0), pixels.tobytes())
        self._send(b"".join(parts))

    def send_text(self, text: str) -> None:
        """Send a line for people."""
        encoded = one_line(text).encode()[:TEXT_BYTES]
        self._send(struct.pack("<HI", TEXT, len(encoded)) + encoded)

    def send_close(self) -> None:
        """Say that nothing follows."""
        self._send(struct.pack("<H", CLOSE))

    def _send(self, message: bytes) -> None:
        self._socket.settimeout(self._timeout)
        self._socket.sendall(message)

    def _counted(self, most: int) -> bytes:
        (length,) = struct.unpack("<I", self._read(4))
        if length > most:
            raise UsageError(f"a text or header of {length} bytes, more than {most}; send less")
        return self._read(length)

    def _skip(self, count: int, what: str) -> None:
        if count > WAVEFORM_BYTES:
            raise UsageError(f"{what} of {count} bytes, more than {WAVEFORM_BYTES}; leave it out")
        for first in range(0, count, AT_ONCE):
            self._read(min(AT_ONCE, count - first))

    def _read(self, count: int) -> bytes:
        buffer = bytearray(count)
        view, filled = memoryview(buffer), 0
        while filled < count:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            received = self._socket.recv_into(view[filled:])
            if not received:
                where = "in the middle of a message" if filled else "without a close message"
                raise UsageError(f"the client went {where}; what it sent last is dropped")
            filled += received
        return bytes(buffer)


def image_head(line: Any, pixels: NDArray[Any], field_of_view: tuple[float, float, float], index: int) -> Any:
    """Header of an image that was made from a line's slice.

    Args:
        line: header of one of its lines, which gives place, time and counters.
        pixels: (y, x), float32 for magnitudes or complex64.
        field_of_view: along x, y and z in mm.
        index: of the image in the series.
    """
    head = np.zeros((), IMAGE_HEAD)
    for name in _COPIED:
        head[name] = line[name]
    for name in _COUNTERS:
        head[name] = line["idx"][name]
    head["version"], head["channels"], head["image_index"] = 1, 1, index
    complex_valued = np.iscomplexobj(pixels)
    head["data_type"] = COMPLEX_FLOAT if complex_valued else FLOAT
    head["image_type"] = COMPLEX if complex_valued else MAGNITUDE
    head["matrix_size"], head["field_of_view"] = (*pixels.shape[::-1], 1), field_of_view
    return head


def _text(encoded: bytes) -> str:
    try:
        return encoded.decode()
    except UnicodeDecodeError as error:
        raise UsageError("a text is not UTF-8; send it as UTF-8") from error
