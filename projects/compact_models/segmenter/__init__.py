"""Parts that train the compact SAM 2.1."""
