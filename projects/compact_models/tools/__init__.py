"""Command-line tools that prepare data and measure the models."""
