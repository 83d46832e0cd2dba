"""The page of `bmp demo`; needs the extra ``web``."""
