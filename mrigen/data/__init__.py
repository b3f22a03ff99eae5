"""What lies on disk: measurement stores, their manifests, generated images."""
