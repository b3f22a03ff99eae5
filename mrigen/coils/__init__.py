"""Coil sensitivities (ESPIRiT), coil compression and noise pre-whitening, in torch."""
