"""Read and write videos with PyAV."""
