"""The pipeline that makes Meta equal to the source catalog, one verb per module."""
