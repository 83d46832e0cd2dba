"""Projects beside the package: each with a README, its own configs, tools and tests."""
