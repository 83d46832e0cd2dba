"""Synthetic crowds with exact boxes, masks, keypoints and occlusion order."""
