"""From files of measurements to files of images: what ``mrigen reconstruct`` does."""
