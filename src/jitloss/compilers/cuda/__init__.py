"""The CUDA compiler: definitions become kernels for a device. Imported when the first array on a device arrives."""
