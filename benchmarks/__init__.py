"""The asv suite (``benchmarks.py``), the comparison with other libraries (``compare.py``), the table of limits (``limits.py``), the
roofline and the model of more cores (``roofline.py``, ``scaling.py``), and the code of kernels (``kernel_code.py``)."""
