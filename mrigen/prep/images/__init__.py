"""From sets of images to a measurement store: what ``mrigen prep-images`` does."""
