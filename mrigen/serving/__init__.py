"""Reconstruction of streams of acquisitions: ISMRMRD's messages over TCP."""
