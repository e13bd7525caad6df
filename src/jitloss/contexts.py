"""Which CUDA device is current in the calling thread."""

__all__ = ["is_current"]


def is_current(device: int) -> bool:
    """Whether a device is current in the thread. The driver is asked, which changes nothing."""
    from cuda.bindings import driver

    error, now = driver.cuCtxGetDevice()
    return bool(error == driver.CUresult.CUDA_SUCCESS) and int(now) == device
