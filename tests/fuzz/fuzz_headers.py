"""ISMRMRD headers: what is read is finite, and fits the k-space or is left out."""

import json
import math

from mrigen.prep import ismrmrd

WIDTH = 24
HEADER = ismrmrd.Header((48, WIDTH, 1), (24, 24, 1), (440.0, 220.0, 5.0), (220.0, 220.0, 5.0), 12, 23, 3.0)
HEADER = ismrmrd.Header(**{**vars(HEADER), "tr_ms": 3.5, "te_ms": 1.2, "ti_ms": 0.0, "flip_angle_deg": 9.0})
EXAMPLES = [
    ismrmrd.write(HEADER, {"name": "value"}),
    b'<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding/></ismrmrdHeader>',
]
TOKENS = [
    b'<!DOCTYPE a [<!ENTITY b "c">]>',
    b"&b;",
    b"<encoding>",
    b"</encoding>",
    b"<x>",
    b"<![CDATA[",
    b"<!--",
    b"<?xml",
    b"xmlns=''",
    b"encoding='utf-16'",
    b"encoding='cp037'",
    b"\xff\xfe",
    b"\x00",
]


def target(data):
    try:
        header = ismrmrd.parse(data)
        ismrmrd.user_parameter(data, "name")
    except ismrmrd.HeaderError:
        return
    json.dumps(header.whitelist(), allow_nan=False)
    assert header.readout_oversampling() >= 1
    assert math.isfinite(header.readout_oversampling())
    lines = header.acquired_lines(WIDTH)
    assert lines is None or 0 <= lines[0] < lines[1] <= WIDTH
