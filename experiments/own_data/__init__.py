"""A worked example: own recordings, own encoder, own data source."""
