"""Losses of a real-valued prediction."""

from ..definition import Count, Fraction, LogRate, Positive, Real, RealTarget, pointwise
from ..math import abs, clip, exp, log, log_cosh, maximum, sign, tanh, times, where

INFINITE = 1e999
HALF_LOG_TWO_PI = 0.9189385332046727


@pointwise
def mse_loss(prediction: Real, target: RealTarget):
    r"""Mean squared error.

    The mean of the squared differences between predictions and targets, the usual loss of a
    regression. It is minimised by the mean of the targets, and one large error outweighs many small
    ones: choose :func:`huber_loss`, :func:`log_cosh_loss` or :func:`l1_loss` where targets have
    outliers.

    .. math::

        \frac{1}{n} \sum_{i=1}^{n} (p_i - t_i)^2

    over :math:`n` predictions :math:`p` and targets :math:`t`. The gradient, before the factor
    :math:`1/n`, is

    .. math::

        2 (p_i - t_i)

    and the second derivative is 2.

    Parameters
    ----------
    predictions : array_like
        Predicted values, any real numbers, in the unit of the targets; of any shape.
    targets : array_like
        True values, any real numbers; of the shape of ``predictions``.

    Returns
    -------
    float
        The mean over the elements of the squared error, not halved.

    See Also
    --------
    l1_loss : Absolute error, for the median of the targets.
    huber_loss : Squared near zero, linear beyond.

    Notes
    -----
    This is the value of PyTorch's ``mse_loss`` and Keras' ``MeanSquaredError``. optax's ``l2_loss`` and
    scikit-learn's ``HalfSquaredError`` are half of it, and half its gradient; optax's
    ``squared_error`` leaves the mean to the caller. Predictions and targets have one shape: (n, 1)
    against (n,) is an error, never an n by n broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> from jitloss import mse_loss
    >>> predictions, targets = np.array([2.5, 0.0, 2.0, 8.0]), np.array([3.0, -0.5, 2.0, 7.0])
    >>> mse_loss.value_and_gradient(predictions, targets)
    (0.375, array([-0.25,  0.25,  0.  ,  0.5 ]))

    ``reduction="none"`` gives the squared error of each element:

    >>> mse_loss(predictions, targets, reduction="none")
    array([0.25, 0.25, 0.  , 1.  ])
    """
    error = prediction - target
    return error * error, 2.0 * error, 2.0


@pointwise
def l1_loss(prediction: Real, target: RealTarget):
    r"""Mean absolute error.

    The mean of the absolute differences between predictions and targets. It is minimised by the
    median of the targets, so that outliers pull no harder than their neighbours; its gradient has
    the same size near the minimum as far from it, where :func:`huber_loss` or
    :func:`log_cosh_loss` settle more smoothly.

    .. math::

        \frac{1}{n} \sum_{i=1}^{n} |p_i - t_i|

    over :math:`n` predictions :math:`p` and targets :math:`t`. The gradient, before the factor
    :math:`1/n`, is

    .. math::

        \operatorname{sign}(p_i - t_i)

    and the second derivative is 0.

    Parameters
    ----------
    predictions : array_like
        Predicted values, any real numbers, in the unit of the targets; of any shape.
    targets : array_like
        True values, any real numbers; of the shape of ``predictions``.

    Returns
    -------
    float
        The mean over the elements of the absolute error.

    See Also
    --------
    quantile_loss : The same for another quantile than the median; half of this one at 0.5.
    mse_loss : Squared error, for the mean of the targets.
    l1_regularization : The penalty on parameters.

    Notes
    -----
    At the kink, where prediction and target are equal, the gradient is 0, as in PyTorch's ``l1_loss``.

    Examples
    --------
    >>> import numpy as np
    >>> from jitloss import l1_loss
    >>> predictions, targets = np.array([2.5, 0.0, 2.0, 8.0]), np.array([3.0, -0.5, 2.0, 7.0])
    >>> l1_loss.value_and_gradient(predictions, targets)
    (0.5, array([-0.25,  0.25,  0.  ,  0.25]))

    A weight of 0 takes an element out of the sum, and with ``normalizer="weights"`` out of the count:

    >>> l1_loss(predictions, targets, sample_weight=[1.0, 1.0, 0.0, 0.0], normalizer="weights")
    0.5
    """
    error = prediction - target
    return abs(error), sign(error), 0.0


@pointwise
def huber_loss(prediction: Real, target: RealTarget, delta: Positive = 1.0):
    r"""Huber loss, squared near zero and linear beyond ``delta``.

    Half the squared error for errors up to ``delta``, and its tangent beyond: as smooth as
    :func:`mse_loss` near the minimum, as robust to outliers as :func:`l1_loss`. Choose ``delta`` as
    the size of error, in the unit of the targets, from which a target counts as an outlier; where
    there is no such size, :func:`log_cosh_loss` needs none.

    .. math::

        \frac{1}{n} \sum_{i=1}^{n} \begin{cases}
        \frac{1}{2} (p_i - t_i)^2 & \text{if } |p_i - t_i| \le \delta \\
        \delta \left( |p_i - t_i| - \frac{1}{2} \delta \right) & \text{otherwise}
        \end{cases}

    over :math:`n` predictions :math:`p` and targets :math:`t`. The gradient, before the factor
    :math:`1/n`, is

    .. math::

        \min(\max(p_i - t_i, -\delta), \delta)

    and the second derivative is 1 where the error is at most :math:`\delta`, else 0.

    Parameters
    ----------
    predictions : array_like
        Predicted values, any real numbers, in the unit of the targets; of any shape.
    targets : array_like
        True values, any real numbers; of the shape of ``predictions``.
    delta : float, default 1.0
        The error at which the loss turns from squared to linear, a positive number in the unit of
        the targets.

    Returns
    -------
    float
        The mean over the elements; the squared part is halved.

    See Also
    --------
    mse_loss : The limit of a large ``delta``, not halved.
    l1_loss : The limit of a small ``delta``, divided by it.
    log_cosh_loss : A smooth relative without a parameter.

    Notes
    -----
    The definition is Huber's [1]_, that of PyTorch's ``huber_loss``, Keras' ``Huber`` and optax's
    ``huber_loss``. PyTorch's ``smooth_l1_loss`` is this value divided by ``delta``, which is called
    ``beta`` there.

    References
    ----------
    .. [1] P. J. Huber, "Robust Estimation of a Location Parameter", The Annals of Mathematical
       Statistics 35(1), 73-101, 1964.

    Examples
    --------
    >>> import numpy as np
    >>> from jitloss import huber_loss
    >>> predictions, targets = np.array([0.5, -1.0, 3.0, 0.0]), np.zeros(4)
    >>> huber_loss.value_and_gradient(predictions, targets)
    (0.78125, array([ 0.125, -0.25 ,  0.25 ,  0.   ]))

    A wider squared zone:

    >>> huber_loss.value_and_gradient(predictions, targets, delta=2.0)
    (1.15625, array([ 0.125, -0.25 ,  0.5  ,  0.   ]))
    """
    error = prediction - target
    size = abs(error)
    value = where(size <= delta, 0.5 * error * error, delta * (size - 0.5 * delta))
    return value, clip(error, -delta, delta), where(size <= delta, 1.0, 0.0)


@pointwise
def log_cosh_loss(prediction: Real, target: RealTarget):
    r"""Logarithm of the hyperbolic cosine of the error, a smooth absolute error.

    About half the squared error for small errors and the absolute error less log 2 for large ones,
    with derivatives of every order: a :func:`huber_loss` without a parameter, and with a curvature
    for second-order methods. The transition is at errors of about 1, so scale targets to that size,
    or choose :func:`huber_loss` and set its ``delta``.

    .. math::

        \frac{1}{n} \sum_{i=1}^{n} \log \cosh(p_i - t_i)

    over :math:`n` predictions :math:`p` and targets :math:`t`. The gradient, before the factor
    :math:`1/n`, is

    .. math::

        \tanh(p_i - t_i)

    and the second derivative is :math:`1 - \tanh^2(p_i - t_i)`.

    Parameters
    ----------
    predictions : array_like
        Predicted values, any real numbers, in the unit of the targets; of any shape.
    targets : array_like
        True values, any real numbers; of the shape of ``predictions``.

    Returns
    -------
    float
        The mean over the elements of log cosh of the error.

    See Also
    --------
    huber_loss : The same idea with a threshold to choose.
    l1_loss : Absolute error, with a kink.

    Notes
    -----
    Errors of any size give accurate values: nothing overflows at an error of 1e4, and nothing is
    lost to rounding at one of 1e-4. Keras' ``LogCosh`` and optax's ``log_cosh`` are the same
    function. [1]_ studies the resulting estimator.

    References
    ----------
    .. [1] R. A. Saleh and A. K. M. E. Saleh, "Statistical Properties of the log-cosh Loss Function
       Used in Machine Learning", arXiv:2208.04564, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from jitloss import log_cosh_loss
    >>> predictions, targets = np.array([0.5, -1.0, 0.0, 3.0]), np.zeros(4)
    >>> value, gradient = log_cosh_loss.value_and_gradient(predictions, targets)
    >>> round(value, 4)
    0.7158
    >>> gradient.round(4)
    array([ 0.1155, -0.1904,  0.    ,  0.2488])

    The values of the elements:

    >>> log_cosh_loss(predictions, targets, reduction="none").round(4)
    array([0.1201, 0.4338, 0.    , 2.3093])
    """
    error = prediction - target
    small = exp(-2.0 * abs(error))
    bend = 2.0 / (1.0 + small)
    return log_cosh(error), tanh(error), small * bend * bend


@pointwise
def quantile_loss(prediction: Real, target: RealTarget, quantile: Fraction = 0.5):
    r"""Pinball loss, minimised by a quantile of the targets.

    The absolute error with a slope of ``quantile`` where the prediction is too low and of
    ``1 - quantile`` where it is too high. Its minimum is the quantile of the targets: two models with
    0.05 and 0.95 give a 90 % interval. For the median alone :func:`l1_loss` is the same up to a
    factor of 2.

    .. math::

        \frac{1}{n} \sum_{i=1}^{n} \max(q (t_i - p_i), (q - 1) (t_i - p_i))

    over :math:`n` predictions :math:`p` and targets :math:`t`, with the quantile :math:`q`. The
    gradient, before the factor :math:`1/n`, is

    .. math::

        \begin{cases}
        -q & \text{if } p_i < t_i \\
        1 - q & \text{if } p_i > t_i \\
        0 & \text{if } p_i = t_i
        \end{cases}

    and the second derivative is 0.

    Parameters
    ----------
    predictions : array_like
        Predicted quantiles, any real numbers, in the unit of the targets; of any shape.
    targets : array_like
        True values, any real numbers; of the shape of ``predictions``.
    quantile : float, default 0.5
        Which quantile is predicted, a number strictly between 0 and 1: the share of the targets
        that should lie below the predictions.

    Returns
    -------
    float
        The mean over the elements; at ``quantile=0.5`` half the mean absolute error.

    See Also
    --------
    l1_loss : Twice this loss at ``quantile=0.5``.

    Notes
    -----
    The loss is that of quantile regression [1]_ and has the value of scikit-learn's
    ``mean_pinball_loss``. At the kink, where prediction and target are equal, the gradient is 0, while
    scikit-learn's ``PinballLoss`` takes ``-quantile`` there.

    References
    ----------
    .. [1] R. Koenker and G. Bassett, "Regression Quantiles", Econometrica 46(1), 33-50, 1978.

    Examples
    --------
    >>> import numpy as np
    >>> from jitloss import quantile_loss
    >>> predictions, targets = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 4.0, 1.0, 0.0])
    >>> quantile_loss.value_and_gradient(predictions, targets)
    (1.125, array([-0.125, -0.125,  0.125,  0.125]))

    For the upper quartile, predictions that are too low cost three times as much as those that are
    too high:

    >>> quantile_loss.value_and_gradient(predictions, targets, quantile=0.75)
    (0.9375, array([-0.1875, -0.1875,  0.0625,  0.0625]))
    """
    error = target - prediction
    side = sign(error)
    return maximum(quantile * error, (quantile - 1.0) * error), (0.5 - quantile) * abs(side) - 0.5 * side, 0.0


def log_factorial(count):
    """Stirling's approximation of log(count!), 0 up to 1."""
    return where(count > 1.0, count * log(count) - count + HALF_LOG_TWO_PI + 0.5 * log(count), 0.0)


@pointwise
def poisson_nll_loss(prediction: LogRate, target: Count, full=False):
    r"""Negative log-likelihood of Poisson counts whose log rate is predicted.

    For targets that count events: the prediction is the logarithm of the expected count, so that
    any real number is a valid prediction and effects multiply. It is minimised where the expected
    count is the mean of the counts. Where the variance is far above the mean (overdispersion), a
    Poisson model is overconfident.

    .. math::

        \frac{1}{n} \sum_{i=1}^{n} \left( e^{p_i} - t_i p_i \right)

    over :math:`n` log rates :math:`p` and counts :math:`t`. The gradient, before the factor
    :math:`1/n`, is

    .. math::

        e^{p_i} - t_i

    and the second derivative is :math:`e^{p_i}`.

    Parameters
    ----------
    predictions : array_like
        Natural logarithms of the expected counts, any real numbers; of any shape.
    targets : array_like
        Counts, not negative; of the shape of ``predictions``.
    full : bool, default False
        Whether the value includes an approximation of :math:`\log t!`, which depends on the targets
        alone and leaves the gradient as it is.

    Returns
    -------
    float
        The mean over the elements, up to :math:`\log t!`; it may be negative.

    See Also
    --------
    mse_loss : For targets whose spread does not grow with their mean.

    Notes
    -----
    With ``full`` the value of each target above 1 gains Stirling's approximation
    :math:`t \log t - t + \frac{1}{2} \log(2 \pi t)`, and others gain nothing, as in PyTorch's
    ``poisson_nll_loss`` with its ``log_input=True``. scikit-learn's ``HalfPoissonLoss`` has the same
    value and gradient. Keras' ``Poisson`` takes rates, not their logarithms. A log rate of -inf is a
    rate of 0: the value is 0 for a count of 0, and inf for any other. The model is treated in [1]_.

    References
    ----------
    .. [1] P. McCullagh and J. A. Nelder, "Generalized Linear Models", 2nd edition, chapter 6,
       Chapman and Hall, 1989.

    Examples
    --------
    >>> import numpy as np
    >>> from jitloss import poisson_nll_loss
    >>> predictions, targets = np.log([1.0, 2.0, 4.0, 0.5]), np.array([0, 2, 5, 1])
    >>> value, gradient = poisson_nll_loss.value_and_gradient(predictions, targets)
    >>> round(value, 4)
    -0.0312
    >>> gradient.round(4)
    array([ 0.25 ,  0.   , -0.25 , -0.125])

    The likelihood in full, to compare models of different targets:

    >>> round(poisson_nll_loss(predictions, targets, full=True), 4)
    1.3245
    """
    rate = exp(prediction)
    value = where(rate < INFINITE, rate - times(target, prediction), rate)  # both terms may overflow, and NaN must stay NaN
    if full:
        value = value + log_factorial(target)
    return value, rate - target, rate
