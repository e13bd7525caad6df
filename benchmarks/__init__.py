"""The asv suite (``benchmarks.py``) and the comparison with other libraries (``compare.py``)."""
