"""Raw data to measurement stores: fastMRI files, image sets, simulated acquisitions."""
