"""Parts that train the compact pose model."""
