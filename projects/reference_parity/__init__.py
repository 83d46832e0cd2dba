"""Parity with the recorded numbers of the public BBoxMaskPose reference."""
