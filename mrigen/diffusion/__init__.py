"""Noise levels, denoisers, objectives and samplers; networks come in through a protocol."""
