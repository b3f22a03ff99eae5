"""The header: what is read, what is refused."""

from xml.etree import ElementTree as ET

import pytest
from fastmri.data.mri_data import et_query

from mrigen.prep.ismrmrd import Header, HeaderError, parse, user_parameter, write

from .scans import header

FULL = Header(
    encoded_matrix=(640, 322, 1),
    recon_matrix=(320, 320, 1),
    encoded_fov=(440.0, 221.4, 7.5),
    recon_fov=(220.0, 220.0, 5.0),
    centre=161,
    maximum=321,
    field_strength=2.8936,
    tr_ms=6000.0,
    te_ms=113.0,
    ti_ms=100.0,
    flip_angle_deg=150.0,
)


def test_what_is_written_is_read():
    assert parse(write(FULL, {"note": "a < b & c"})) == FULL
    assert user_parameter(write(FULL, {"note": "a < b & c"}), "note") == "a < b & c"
    assert user_parameter(write(FULL, {"note": "x"}), "other") is None


def test_fastmri_queries_the_written_header():
    root = ET.fromstring(write(FULL, {}))
    assert et_query(root, ["encoding", "encodedSpace", "matrixSize", "y"]) == "322"
    assert et_query(root, ["encoding", "encodingLimits", "kspace_encoding_step_1", "maximum"]) == "321"


@pytest.mark.parametrize(
    ("width", "centre", "maximum", "expected"),
    [
        (322, 161, 321, (0, 322)),
        (322, 133, 265, (28, 294)),
        (29, 11, 22, (3, 26)),
        (322, 200, 321, (0, 283)),
        (320, 161, 321, None),
    ],
)
def test_acquired_lines_are_those_of_fastmri(width, centre, maximum, expected):
    """padding_left = enc_y // 2 - center, padding_right = padding_left + maximum + 1."""
    encoded = (640, 322 if width != 29 else 29, 1)
    assert Header(encoded_matrix=encoded, centre=centre, maximum=maximum).acquired_lines(width) == expected


def test_the_first_encoding_counts_and_names_do_not():
    end = b"</ismrmrdHeader>"
    size = b"<matrixSize><x>1</x><y>2</y><z>3</z></matrixSize>"
    second = b"<encoding><encodedSpace>" + size + b"</encodedSpace></encoding>"
    subject = b"<subjectInformation><patientName>Doe</patientName></subjectInformation>"
    found = parse(header(64, 30).replace(end, second + subject + end))
    assert found.encoded_matrix == (64, 30, 1)
    assert "Doe" not in str(found.whitelist())


def test_missing_and_senseless_values_are_none():
    xml = b"<ismrmrdHeader><sequenceParameters><TR>soon</TR><TE>nan</TE></sequenceParameters></ismrmrdHeader>"
    assert parse(xml) == Header()


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "document type"),
        ('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a><a/>'.encode("utf-16"), "document type"),
        (b"<a><b></a>", "not well-formed"),
        (b"", "not well-formed"),
        (b"<a>" * 100 + b"</a>" * 100, "deep"),
        (b"<a>" + b" " * (1 << 22) + b"</a>", "more than"),
    ],
)
def test_malformed_and_dangerous_xml_is_refused(xml, message):
    with pytest.raises(HeaderError, match=message):
        parse(xml)


@pytest.mark.parametrize("name", ["uutf-8", "zlib", "utf-7", "rot13", "idna", "shift_jis"])
def test_encodings_that_cannot_be_are_refused(name):
    with pytest.raises(HeaderError, match="not well-formed"):
        parse(f"<?xml version='1.0' encoding='{name}'?><a>\u00e9</a>".encode("latin-1"))


@pytest.mark.parametrize(("centre", "maximum"), [(1000, 23), (-1000, 23), (12, -500)])
def test_limits_outside_the_kspace_say_nothing(centre, maximum):
    found = Header(encoded_matrix=(48, 24, 1), centre=centre, maximum=maximum)
    assert found.acquired_lines(24) is None


@pytest.mark.parametrize(("encoded", "reconstructed", "ratio"), [(440, 220, 2), (440, 1e-320, 1), (1, 2, 1)])
def test_readout_oversampling(encoded, reconstructed, ratio):
    found = Header(encoded_fov=(encoded, 1, 1), recon_fov=(reconstructed, 1, 1))
    assert found.readout_oversampling() == ratio
