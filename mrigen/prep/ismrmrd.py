"""The ISMRMRD header of a fastMRI file: read only what a whitelist names, and written by simulations.

The XML comes from strangers: document type declarations are refused, so that no entity is ever
expanded, and everything but numbers is ignored.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from xml.parsers import expat
from xml.sax.saxutils import escape

NAMESPACE = "http://www.ismrm.org/ISMRMRD"
MAX_BYTES = 1 << 22
MAX_DEPTH = 32
SEQUENCE = {"TR": "tr_ms", "TE": "te_ms", "TI": "ti_ms", "flipAngle_deg": "flip_angle_deg"}


SIMULATION = "mrigen_simulation"
"""Name of the user parameter that holds the parameters of a simulation, as JSON."""
HEAD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,47}")


class HeaderError(ValueError):
    """The XML is malformed or not allowed; the message says how."""


@dataclass(frozen=True)
class Header:
    """Acquisition parameters of the first encoding; None where the header does not say.

    Attributes:
        encoded_matrix: samples along readout, phase encode and slice of the encoded space.
        recon_matrix: the same of the reconstructed image.
        encoded_fov: field of view of the encoded space in mm.
        recon_fov: field of view of the reconstructed image in mm.
        centre: number of the phase-encode line at DC (``kspace_encoding_step_1.center``).
        maximum: number of the last phase-encode line; the first is 0.
        field_strength: tesla.
        tr_ms: repetition time.
        te_ms: echo time.
        ti_ms: inversion time.
        flip_angle_deg: flip angle.
    """

    encoded_matrix: tuple[int, int, int] | None = None
    recon_matrix: tuple[int, int, int] | None = None
    encoded_fov: tuple[float, float, float] | None = None
    recon_fov: tuple[float, float, float] | None = None
    centre: int | None = None
    maximum: int | None = None
    field_strength: float | None = None
    tr_ms: float | None = None
    te_ms: float | None = None
    ti_ms: float | None = None
    flip_angle_deg: float | None = None

    def acquired_lines(self, width: int) -> tuple[int, int] | None:
        """First and one past the last phase-encode line that were not zero-padded.

        fastMRI's ``padding_left = enc_y // 2 - center`` and ``padding_right = padding_left + maximum
        + 1``, clipped to the k-space; None where the header does not describe lines of a k-space that is
        ``width`` lines wide.
        """
        if self.encoded_matrix is None or self.centre is None or self.maximum is None:
            return None
        if self.encoded_matrix[1] != width:
            return None
        first = width // 2 - self.centre
        left, right = max(first, 0), min(first + self.maximum + 1, width)
        return (left, right) if left < right else None

    def readout_oversampling(self) -> float:
        """Encoded over reconstructed field of view along the readout; 1 where the header does not say."""
        if self.encoded_fov is None or self.recon_fov is None or self.recon_fov[0] <= 0:
            return 1.0
        ratio = self.encoded_fov[0] / self.recon_fov[0]
        return max(ratio, 1.0) if math.isfinite(ratio) else 1.0

    def whitelist(self) -> dict[str, float | list[int] | list[float]]:
        """What may be copied into a store: numbers that describe the acquisition."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {n: list(v) if isinstance(v, tuple) else v for n, v in values.items() if v is not None}


def parse(xml: bytes) -> Header:
    """Read a header.

    Raises:
        HeaderError: not well-formed XML, a document type declaration, or no ISMRMRD header.
    """
    text = leaves(xml)
    encoding, limits = "encoding/", "encoding/encodingLimits/kspace_encoding_step_1/"
    sequence = {f: _number(text, f"sequenceParameters/{tag}") for tag, f in SEQUENCE.items()}
    return Header(
        encoded_matrix=_matrix(text, f"{encoding}encodedSpace/matrixSize"),
        recon_matrix=_matrix(text, f"{encoding}reconSpace/matrixSize"),
        encoded_fov=_triple(text, f"{encoding}encodedSpace/fieldOfView_mm"),
        recon_fov=_triple(text, f"{encoding}reconSpace/fieldOfView_mm"),
        centre=_whole(text, f"{limits}center"),
        maximum=_whole(text, f"{limits}maximum"),
        field_strength=_number(text, "acquisitionSystemInformation/systemFieldStrength_T"),
        **sequence,
    )


def user_parameter(xml: bytes, name: str) -> str | None:
    """Value of a ``userParameterString``; None where the header has none of that name.

    Raises:
        HeaderError: as ``parse``.
    """
    text = leaves(xml)
    named = text.get("userParameters/userParameterString/name") == name
    return text.get("userParameters/userParameterString/value") if named else None


def simulated_head(xml: bytes) -> str | None:
    """Name of the head that ``mrigen simulate`` acquired; None for scans and for a single volume.

    Raises:
        HeaderError: as ``parse``.
    """
    text = user_parameter(xml, SIMULATION)
    try:
        tree = json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
    name = tree.get("head") if isinstance(tree, dict) else None
    return name if isinstance(name, str) and HEAD.fullmatch(name) else None


def write(header: Header, user_parameters: dict[str, str]) -> bytes:
    """A fastMRI-like header with the values of ``header``, of a made-up scanner."""
    h = header
    spaces = "".join(
        f"<{tag}><matrixSize>{_xyz(matrix)}</matrixSize><fieldOfView_mm>{_xyz(fov)}</fieldOfView_mm></{tag}>"
        for tag, matrix, fov in (
            ("encodedSpace", h.encoded_matrix, h.encoded_fov),
            ("reconSpace", h.recon_matrix, h.recon_fov),
        )
    )
    sequence = "".join(f"<{tag}>{getattr(h, field):g}</{tag}>" for tag, field in SEQUENCE.items())
    user = "".join(
        f"<userParameterString><name>{escape(n)}</name><value>{escape(v)}</value></userParameterString>"
        for n, v in user_parameters.items()
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<ismrmrdHeader xmlns="{NAMESPACE}">'
        "<acquisitionSystemInformation><systemVendor>mrigen</systemVendor>"
        f"<systemModel>simulation</systemModel><systemFieldStrength_T>{h.field_strength:g}"
        "</systemFieldStrength_T></acquisitionSystemInformation>"
        "<experimentalConditions><H1resonanceFrequency_Hz>"
        f"{42577478 * (h.field_strength or 0):.0f}</H1resonanceFrequency_Hz></experimentalConditions>"
        f"<encoding>{spaces}<encodingLimits><kspace_encoding_step_1><minimum>0</minimum>"
        f"<maximum>{h.maximum}</maximum><center>{h.centre}</center></kspace_encoding_step_1></encodingLimits>"
        "<trajectory>cartesian</trajectory></encoding>"
        f"<sequenceParameters>{sequence}</sequenceParameters>"
        f"<userParameters>{user}</userParameters></ismrmrdHeader>\n"
    ).encode()


def leaves(xml: bytes) -> dict[str, str]:
    """First text of every path below the root, without namespaces."""
    if len(xml) > MAX_BYTES:
        raise HeaderError(f"the header has {len(xml)} bytes, more than {MAX_BYTES}")
    parser = expat.ParserCreate(namespace_separator=" ")
    path: list[str] = []
    texts: dict[str, str] = {}

    def start(name: str, _: dict[str, str]) -> None:
        path.append(name.rpartition(" ")[2])
        if len(path) > MAX_DEPTH:
            raise HeaderError(f"elements are nested more than {MAX_DEPTH} deep")

    def end(_: str) -> None:
        closed.add("/".join(path[1:]))
        path.pop()

    def data(text: str) -> None:
        where = "/".join(path[1:])
        if where not in closed:
            texts[where] = texts.get(where, "") + text

    def refuse(*_: object) -> None:
        raise HeaderError("document type declarations are not allowed")

    closed: set[str] = set()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = data, refuse
    try:
        parser.Parse(xml, True)
    except HeaderError:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:  # the last two: encodings that are none
        raise HeaderError(f"not well-formed XML ({error})") from error
    return {where: text.strip() for where, text in texts.items()}


def _number(text: dict[str, str], path: str) -> float | None:
    try:
        value = float(text[path])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _whole(text: dict[str, str], path: str) -> int | None:
    value = _number(text, path)
    return None if value is None else int(value)


def _triple(text: dict[str, str], path: str) -> tuple[float, float, float] | None:
    x, y, z = (_number(text, f"{path}/{axis}") for axis in "xyz")
    return None if x is None or y is None or z is None else (x, y, z)


def _matrix(text: dict[str, str], path: str) -> tuple[int, int, int] | None:
    sizes = _triple(text, path)
    return None if sizes is None else (int(sizes[0]), int(sizes[1]), int(sizes[2]))


def _xyz(values: tuple[float, float, float] | None) -> str:
    return "".join(f"<{axis}>{value:g}</{axis}>" for axis, value in zip("xyz", values or (), strict=True))
