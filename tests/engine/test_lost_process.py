"""What a process makes of the errors of a communication whose other end has gone."""

import signal

import pytest

from mrigen.engine.processes import LOST, lost_peer_as_error
from mrigen.errors import LostProcessError


@pytest.fixture
def two(monkeypatch):
    """As one of two processes; SIGTERM is handled afterwards as before."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("words", LOST)
def test_a_lost_connection_is_one_line_and_the_launcher_s_signal_is_ignored(two, words):
    with pytest.raises(LostProcessError, match="another process of this run has ended"), lost_peer_as_error():
        raise RuntimeError(f"[pair.cc:547] Connection {words.title()} [127.0.0.1]:1")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_other_errors_stay_what_they_are(two):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError, match="shape") as found, lost_peer_as_error():
        raise RuntimeError("shape mismatch")
    assert not isinstance(found.value, LostProcessError)
    assert signal.getsignal(signal.SIGTERM) is before


def test_one_process_alone_has_lost_nobody():
    with pytest.raises(RuntimeError, match="Connection closed by peer") as found, lost_peer_as_error():
        raise RuntimeError("Connection closed by peer")
    assert not isinstance(found.value, LostProcessError)
