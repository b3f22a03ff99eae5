"""Headers of the streams that tests send."""

from mrigen.prep import ismrmrd


def header(height, width):
    """XML of a slice of pixels of 10 mm."""
    matrix, fov = (height, width, 1), (10.0 * height, 10.0 * width, 5.0)
    return ismrmrd.write(
        ismrmrd.Header(
            encoded_matrix=matrix,
            recon_matrix=matrix,
            encoded_fov=fov,
            recon_fov=fov,
            centre=width // 2,
            maximum=width - 1,
            field_strength=3.0,
            **dict.fromkeys(("tr_ms", "te_ms", "ti_ms", "flip_angle_deg"), 1.0),
        ),
        {},
    )
