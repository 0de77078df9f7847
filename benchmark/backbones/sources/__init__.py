"""The sources of backbones that come with this package: one file each, ending in ``SOURCE = ...``."""
