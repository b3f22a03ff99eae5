"""Coil sensitivities (ESPIRiT), coil compression and noise pre-whitening, in torch."""

ESPIRIT_CROP = 0.0
"""Default of ``espirit`` and of the preparation: maps without holes, as models are trained with."""
