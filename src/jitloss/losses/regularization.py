"""Penalties on the parameters of a model. They are sums, never means."""

from ..definition import NonNegative, Share, Weight, pointwise
from ..math import abs, sign


@pointwise
def l1_regularization(param: Weight, strength: NonNegative = 0.01):
    r"""L1 penalty on parameters, ``strength`` times the sum of their absolute values.

    Added to a loss it makes a model sparse: each parameter is drawn to 0 with the same force, however
    small it is. Where parameters should be small rather than few, choose :func:`l2_regularization`;
    where they are correlated, :func:`elastic_net`.

    .. math::

        \lambda \sum_i |w_i|

    over all parameters :math:`w`, with the strength :math:`\lambda`. The gradient is

    .. math::

        \lambda \operatorname{sign}(w_i)

    and the second derivative is 0.

    Parameters
    ----------
    params : array_like or dict
        Trained parameters, any real numbers, as an array of any shape; or a dict of such arrays by
        name, or of such dicts, all of which are added up.
    strength : float, default 0.01
        The factor :math:`\lambda` of the penalty, a number that is not negative.

    Returns
    -------
    float
        The sum over all parameters, never a mean.

    See Also
    --------
    l2_regularization : Small parameters rather than few.
    elastic_net : Both.
    l1_loss : The absolute error of predictions.

    Notes
    -----
    At the kink, a parameter of 0, the gradient is 0. The penalty is that of the lasso [1]_.

    References
    ----------
    .. [1] R. Tibshirani, "Regression Shrinkage and Selection via the Lasso", Journal of the Royal
       Statistical Society B 58(1), 267-288, 1996.

    Examples
    --------
    >>> import numpy as np
    >>> from jitloss import l1_regularization
    >>> l1_regularization.value_and_gradient(np.array([3.0, -1.0, 0.0]), strength=0.5)
    (2.0, array([ 0.5, -0.5,  0. ]))

    The parameters of a model by name:

    >>> params = {"weight": np.array([[1.0, -2.0]]), "bias": np.array([0.5])}
    >>> value, gradients = l1_regularization.value_and_gradient(params, strength=0.5)
    >>> value
    1.75
    >>> gradients["weight"]
    array([[ 0.5, -0.5]])
    """
    return strength * abs(param), strength * sign(param), 0.0


@pointwise
def l2_regularization(param: Weight, strength: NonNegative = 0.01):
    r"""L2 penalty on parameters, half of ``strength`` times the sum of their squares.

    Added to a loss it keeps parameters small, especially large ones: ridge regression, or weight
    decay under plain gradient descent. Where parameters should be few rather than small, choose
    :func:`l1_regularization`.

    .. math::

        \frac{\lambda}{2} \sum_i w_i^2

    over all parameters :math:`w`, with the strength :math:`\lambda`. The gradient is

    .. math::

        \lambda w_i

    and the second derivative is :math:`\lambda`.

    Parameters
    ----------
    params : array_like or dict
        Trained parameters, any real numbers, as an array of any shape; or a dict of such arrays by
        name, or of such dicts, all of which are added up.
    strength : float, default 0.01
        The factor :math:`\lambda` of the penalty, a number that is not negative.

    Returns
    -------
    float
        The sum over all parameters, halved, never a mean.

    See Also
    --------
    l1_regularization : Few parameters rather than small ones.
    elastic_net : Both.
    mse_loss : The squared error of predictions.

    Notes
    -----
    The half makes ``strength`` the factor of the gradient, as ``weight_decay`` is in PyTorch's ``SGD``.
    Keras' ``L2(0.01)`` does not halve: it is ``strength=0.02`` here. Ridge regression is introduced in
    [1]_.

    References
    ----------
    .. [1] A. E. Hoerl and R. W. Kennard, "Ridge Regression: Biased Estimation for Nonorthogonal
       Problems", Technometrics 12(1), 55-67, 1970.

    Examples
    --------
    >>> import numpy as np
    >>> from jitloss import l2_regularization
    >>> l2_regularization.value_and_gradient(np.array([3.0, -1.0, 0.0]), strength=0.5)
    (2.5, array([ 1.5, -0.5,  0. ]))

    The parameters of a model by name:

    >>> params = {"weight": np.array([[1.0, -2.0]]), "bias": np.array([0.5])}
    >>> value, gradients = l2_regularization.value_and_gradient(params, strength=0.5)
    >>> value
    1.3125
    >>> gradients["weight"]
    array([[ 0.5, -1. ]])
    """
    return 0.5 * strength * param * param, strength * param, strength


@pointwise
def elastic_net(param: Weight, strength: NonNegative = 0.01, l1_ratio: Share = 0.5):
    r"""Elastic net, an L1 and an L2 penalty on parameters that share one strength.

    The compromise between :func:`l1_regularization`, which makes a model sparse, and
    :func:`l2_regularization`, which keeps it stable: of several correlated parameters it keeps or
    drops all of them together.

    .. math::

        \lambda \sum_i \left( \rho |w_i| + \frac{1 - \rho}{2} w_i^2 \right)

    over all parameters :math:`w`, with the strength :math:`\lambda` and the share :math:`\rho` of the
    L1 penalty. The gradient is

    .. math::

        \lambda \left( \rho \operatorname{sign}(w_i) + (1 - \rho) w_i \right)

    and the second derivative is :math:`\lambda (1 - \rho)`.

    Parameters
    ----------
    params : array_like or dict
        Trained parameters, any real numbers, as an array of any shape; or a dict of such arrays by
        name, or of such dicts, all of which are added up.
    strength : float, default 0.01
        The factor :math:`\lambda` of the penalty, a number that is not negative.
    l1_ratio : float, default 0.5
        The share :math:`\rho` of the L1 penalty, a number from 0 to 1.

    Returns
    -------
    float
        The sum over all parameters, never a mean; the squares are halved.

    See Also
    --------
    l1_regularization : The same with ``l1_ratio=1``.
    l2_regularization : The same with ``l1_ratio=0``.

    Notes
    -----
    At the kink, a parameter of 0, the gradient is 0. The penalty is that of scikit-learn's
    ``ElasticNet``, whose ``alpha`` is ``strength`` here; the naive elastic net of [1]_ has two
    strengths and does not halve the squares.

    References
    ----------
    .. [1] H. Zou and T. Hastie, "Regularization and variable selection via the elastic net", Journal of
       the Royal Statistical Society B 67(2), 301-320, 2005.

    Examples
    --------
    >>> import numpy as np
    >>> from jitloss import elastic_net
    >>> params = np.array([3.0, -1.0, 0.0])
    >>> elastic_net.value_and_gradient(params, strength=0.5)
    (2.25, array([ 1. , -0.5,  0. ]))

    More of the L2 penalty:

    >>> elastic_net.value_and_gradient(params, strength=0.5, l1_ratio=0.25)
    (2.375, array([ 1.25, -0.5 ,  0.  ]))
    """
    lasso, ridge = strength * l1_ratio, strength * (1.0 - l1_ratio)
    return lasso * abs(param) + 0.5 * ridge * param * param, lasso * sign(param) + ridge * param, ridge
