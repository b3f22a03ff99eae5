"""Simulated acquisitions of heads in fastMRI's format: what ``mrigen simulate`` does."""
