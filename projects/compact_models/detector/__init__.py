"""Parts that train the compact RTMDet-Ins."""
