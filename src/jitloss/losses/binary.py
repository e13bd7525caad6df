"""Losses of a binary target: a probability, a logit or a margin against 1 or 0, or 1 or -1."""

from ..definition import Binary, Epsilon, Exponent, Logit, NonNegative, Positives, Probability, Real, Share, Sign, pointwise
from ..math import abs, exp, log, log1p, maximum, power, sign, softplus, times, where


def split(logit):
    """exp(-|logit|) and log(1 + exp(-|logit|)); NaN where the logit is +inf, as in the softmax of (logit, 0)."""
    low = -abs(logit - 2.0 * where(logit > 0.0, logit, 0.0))
    return exp(low), softplus(low)


@pointwise
def binary_cross_entropy(
    prediction: Probability, target: Binary, epsilon: Epsilon = 1e-7, *, pos_weight: NonNegative | None = None
):
    r"""Cross-entropy of a probability and a binary target.

    For a model that gives the probability of an event, or of each of several events that may happen
    together. Where the model computes logits, leave out its sigmoid and choose
    :func:`binary_cross_entropy_with_logits`, which is exact at any confidence and needs no clip.

    .. math::

        -\frac{1}{n} \sum_{i=1}^{n} \left( t_i \log \max(p_i, \varepsilon) +
        (1 - t_i) \log \max(1 - p_i, \varepsilon) \right)

    over :math:`n` probabilities :math:`p` and targets :math:`t`. The gradient, before the factor
    :math:`1/n`, is

    .. math::

        -\frac{t_i}{a_i} + \frac{1 - t_i}{b_i}, \quad
        a_i = \max(p_i, \varepsilon), \quad b_i = \max(1 - p_i, \varepsilon)

    and the second derivative is :math:`t_i / a_i^2 + (1 - t_i) / b_i^2`.

    Parameters
    ----------
    predictions : array_like
        Probabilities of the positive class in [0, 1]; of any shape.
    targets : array_like
        1 for the positive class and 0 for the negative, or a probability between them; of the shape of
        ``predictions``.
    epsilon : float, default 1e-7
        Lower bound to which :math:`p` and :math:`1 - p` are each clipped, a number strictly between
        0 and 0.5; never less than 2**-24 in float32 arithmetic.
    pos_weight : float, "balanced" or None, default None
        A number that is not negative, by which :math:`t` is multiplied in the terms of the positive
        class; above 1 it favours recall. ``"balanced"`` is negatives / positives, counted in the
        targets of the call, which must be 0 or 1; it is 1 where one of the two does not occur. None
        is 1. It does not enter the count that a mean divides by.

    Returns
    -------
    float
        The mean over the elements, in nats.

    See Also
    --------
    binary_cross_entropy_with_logits : From logits, without a clip.
    cross_entropy_loss : One class of several.
    focal_loss : Down-weights well-classified elements.

    Notes
    -----
    The gradient is taken at the clipped point: at a probability of 0 with a target of 1 it is
    :math:`-1 / \varepsilon`, finite and not vanishing. Keras clips to
    :math:`[\varepsilon, 1 - \varepsilon]`, where its gradient is 0; PyTorch clamps the logarithms to
    -100 or above instead. A prediction outside [0, 1] is not an error.

    Examples
    --------
    >>> import numpy as np
    >>> from jitloss import binary_cross_entropy
    >>> predictions, targets = np.array([0.5, 0.25, 0.8, 0.5]), np.array([1, 0, 1, 0])
    >>> value, gradient = binary_cross_entropy.value_and_gradient(predictions, targets)
    >>> round(value, 4)
    0.4743
    >>> gradient.round(4)
    array([-0.5   ,  0.3333, -0.3125,  0.5   ])

    A missed positive that costs three times as much:

    >>> round(binary_cross_entropy(predictions, targets, pos_weight=3.0), 4)
    0.9324
    """
    yes = maximum(prediction, epsilon)
    no = maximum(1.0 - prediction, epsilon)
    positive = target if pos_weight is None else target * pos_weight
    negative = 1.0 - target
    lost = where(1.0 - prediction <= epsilon, log(epsilon), log1p(-prediction))
    value = -(positive * log(yes) + negative * lost)
    return value, (negative * yes - positive * no) / (yes * no), positive / (yes * yes) + negative / (no * no)


@pointwise
def binary_cross_entropy_with_logits(logit: Logit, target: Binary, *, pos_weight: NonNegative | None = None):
    r"""Cross-entropy of the sigmoid of a logit and a binary target.

    The usual loss of a binary classifier, or of several labels of which any number may be right:
    sigmoid and cross-entropy in one, accurate at any confidence. Where exactly one of several classes
    is right, choose :func:`cross_entropy_with_logits`; where easy negatives drown the rest,
    :func:`focal_loss_with_logits`.

    .. math::

        -\frac{1}{n} \sum_{i=1}^{n} \left( t_i \log \sigma(z_i) +
        (1 - t_i) \log(1 - \sigma(z_i)) \right)

    over :math:`n` logits :math:`z` and targets :math:`t`, with :math:`\sigma(z) = 1 / (1 + e^{-z})`.
    The gradient, before the factor :math:`1/n`, is

    .. math::

        \sigma(z_i) - t_i

    and the second derivative is :math:`\sigma(z_i) (1 - \sigma(z_i))`.

    Parameters
    ----------
    logits : array_like
        Log-odds of the positive class, any real numbers; of any shape.
    targets : array_like
        1 for the positive class and 0 for the negative, or a probability between them; of the shape of
        ``logits``. Numbers are taken as they are: turn targets of -1 and 1, or of 0 and 255, into bools
        first.
    pos_weight : float, "balanced" or None, default None
        A number that is not negative, by which :math:`t` is multiplied in the terms of the positive
        class; above 1 it favours recall. ``"balanced"`` is negatives / positives, counted in the
        targets of the call, which must be 0 or 1; it is 1 where one of the two does not occur. None
        is 1. It does not enter the count that a mean divides by.

    Returns
    -------
    float
        The mean over the elements, in nats.

    See Also
    --------
    binary_cross_entropy : From probabilities.
    cross_entropy_with_logits : One class of several.
    focal_loss_with_logits : Down-weights well-classified elements.
    hinge_loss : 0 beyond a margin.

    Notes
    -----
    What is computed is :math:`\max(z, 0) - z t + \log(1 + e^{-|z|})`, with no clip: a logit of 1e4 with
    a target of 0 has the value 1e4 and the gradient 1. A logit of -inf gives the exact limit, 0 or inf;
    one of +inf or NaN gives NaN.

    PyTorch's ``binary_cross_entropy_with_logits`` has the same value and the same ``pos_weight``, which
    may be an array there. optax's ``sigmoid_binary_cross_entropy`` leaves the mean to the caller.

    Examples
    --------
    >>> import numpy as np
    >>> from jitloss import binary_cross_entropy_with_logits
    >>> logits, targets = np.array([0.0, 2.0, -1.0, -1e4]), np.array([1, 0, 0, 0])
    >>> value, gradient = binary_cross_entropy_with_logits.value_and_gradient(logits, targets)
    >>> round(value, 4)
    0.7833
    >>> gradient.round(4)
    array([-0.125 ,  0.2202,  0.0672,  0.    ])

    One positive among three negatives, balanced: its gradient is three times as large.

    >>> binary_cross_entropy_with_logits.gradient(logits, targets, pos_weight="balanced").round(4)
    array([-0.375 ,  0.2202,  0.0672,  0.    ])
    """
    small, tail = split(logit)
    positive = target if pos_weight is None else target * pos_weight
    negative = 1.0 - target
    value = times(where(logit >= 0.0, negative, positive), abs(logit)) + (negative + positive) * tail
    yes = where(logit >= 0.0, 1.0, small)  # these two over 1 + small are the probabilities
    no = where(logit >= 0.0, small, 1.0)
    bend = (positive + negative) * small / ((1.0 + small) * (1.0 + small))
    return value, (negative * yes - positive * no) / (1.0 + small), bend


@pointwise
def focal_loss(
    prediction: Probability,
    target: Positives,
    gamma: Exponent = 2.0,
    alpha: Share | None = 0.25,
    *,
    epsilon: Epsilon = 1e-7,
):
    r"""Binary cross-entropy of a probability, down-weighted for well-classified elements.

    Cross-entropy times a power of how wrong the prediction is, so that the many easy elements of an
    unbalanced task, such as the background in object detection, do not drown the few hard ones.
    Where classes are balanced, or calibrated probabilities are wanted, choose
    :func:`binary_cross_entropy`; where the model computes logits, :func:`focal_loss_with_logits`.

    .. math::

        -\frac{1}{n} \sum_{i=1}^{n} \alpha_i (1 - q_i)^\gamma \log q_i

    over :math:`n` elements, where :math:`q_i` is the probability given to the class that is right,
    :math:`p_i` where :math:`t_i = 1` and :math:`1 - p_i` elsewhere, and :math:`\alpha_i` is
    :math:`\alpha` where :math:`t_i = 1` and :math:`1 - \alpha` elsewhere; :math:`q_i` and
    :math:`1 - q_i` are each clipped to :math:`\varepsilon` from below. The gradient, before the
    factor :math:`1/n`, is

    .. math::

        \pm \alpha_i \left( \gamma (1 - q_i)^{\gamma - 1} \log q_i - \frac{(1 - q_i)^\gamma}{q_i}
        \right)

    with + where :math:`t_i = 1` and - elsewhere, and the second derivative is

    .. math::

        \alpha_i (1 - q_i)^\gamma \left( \frac{1}{q_i^2} + \frac{2 \gamma}{q_i (1 - q_i)}
        - \frac{\gamma (\gamma - 1) \log q_i}{(1 - q_i)^2} \right)

    Parameters
    ----------
    predictions : array_like
        Probabilities of the positive class in [0, 1]; of any shape.
    targets : array_like
        1 for the positive class and 0 for the negative; of the shape of ``predictions``. Any number but
        1 counts as 0: there are no soft targets.
    gamma : float, default 2.0
        How strongly well-classified elements are down-weighted, a number that is not negative; 0 is
        not at all.
    alpha : float or None, default 0.25
        The weight of the positive class, a number from 0 to 1; the negative has 1 - ``alpha``.
        None: both have weight 1.
    epsilon : float, default 1e-7
        Lower bound to which :math:`q` and :math:`1 - q` are each clipped, a number strictly between
        0 and 0.5; never less than 2**-24 in float32 arithmetic.

    Returns
    -------
    float
        The mean over the elements, not only over the positive ones.

    See Also
    --------
    focal_loss_with_logits : From logits, without a clip.
    binary_cross_entropy : The same with ``gamma=0`` and ``alpha=None``; takes soft targets.

    Notes
    -----
    The gradient is taken at the clipped point, so that it is finite for any ``gamma`` and does not
    vanish on a confident mistake. The paper [1]_ divides the sum by the number of elements assigned to
    an object: give that number as ``normalizer``. Keras' ``BinaryFocalCrossentropy`` uses ``alpha``
    only with ``apply_class_balancing=True``.

    References
    ----------
    .. [1] T.-Y. Lin, P. Goyal, R. Girshick, K. He and P. Dollár, "Focal Loss for Dense Object
       Detection", ICCV 2017. arXiv:1708.02002.

    Examples
    --------
    >>> import numpy as np
    >>> from jitloss import focal_loss
    >>> predictions, targets = np.array([0.9, 0.5, 0.1, 0.6]), np.array([1, 1, 0, 0])
    >>> value, gradient = focal_loss.value_and_gradient(predictions, targets)
    >>> round(value, 4)
    0.0729
    >>> gradient.round(4)
    array([-0.002 , -0.0746,  0.006 ,  0.3749])

    Without ``alpha`` the two classes weigh the same:

    >>> round(focal_loss(predictions, targets, alpha=None), 4)
    0.1263
    """
    side = where(target == 1.0, 1.0, -1.0)
    right = maximum(where(target == 1.0, prediction, 1.0 - prediction), epsilon)
    wrong = maximum(where(target == 1.0, 1.0 - prediction, prediction), epsilon)
    weight = 1.0 if alpha is None else where(target == 1.0, alpha, 1.0 - alpha)
    # what 1 - prediction has rounded away: without it, small predictions of negatives would lose their digits
    lost = where(target == 1.0, 0.0, where(right <= epsilon, 0.0, (1.0 - right) - prediction))
    loss = -(log(right) + lost)
    focus = weight * where(gamma == 2.0, wrong * wrong, power(wrong, gamma))
    slope = -focus * (gamma * loss * right + wrong) / (wrong * right)
    bend = focus * (gamma * (gamma - 1.0) * loss / (wrong * wrong) + 2.0 * gamma / (wrong * right) + 1.0 / (right * right))
    return focus * loss, side * slope, bend


@pointwise
def focal_loss_with_logits(logit: Logit, target: Positives, gamma: Exponent = 2.0, alpha: Share | None = 0.25):
    r"""Focal loss of the sigmoid of a logit.

    Cross-entropy times a power of how wrong the prediction is, so that the many easy elements of an
    unbalanced task, such as the background in object detection, do not drown the few hard ones.
    Where classes are balanced, or calibrated probabilities are wanted, choose
    :func:`binary_cross_entropy_with_logits`.

    .. math::

        -\frac{1}{n} \sum_{i=1}^{n} \alpha_i (1 - q_i)^\gamma \log q_i

    over :math:`n` logits :math:`z`, where :math:`q_i` is the probability given to the class that is
    right, :math:`\sigma(z_i)` where :math:`t_i = 1` and :math:`\sigma(-z_i)` elsewhere, and
    :math:`\alpha_i` is :math:`\alpha` where :math:`t_i = 1` and :math:`1 - \alpha` elsewhere. The
    gradient, before the factor :math:`1/n`, is

    .. math::

        \mp \alpha_i (1 - q_i)^\gamma \left( 1 - q_i - \gamma q_i \log q_i \right)

    with - where :math:`t_i = 1` and + elsewhere, and the second derivative is

    .. math::

        \alpha_i (1 - q_i)^\gamma q_i \left( (1 + 2 \gamma) (1 - q_i)
        + \gamma (1 - q_i - \gamma q_i) \log q_i \right)

    Parameters
    ----------
    logits : array_like
        Log-odds of the positive class, any real numbers; of any shape.
    targets : array_like
        1 for the positive class and 0 for the negative; of the shape of ``logits``. Any number but 1
        counts as 0: there are no soft targets.
    gamma : float, default 2.0
        How strongly well-classified elements are down-weighted, a number that is not negative; 0 is
        not at all.
    alpha : float or None, default 0.25
        The weight of the positive class, a number from 0 to 1; the negative has 1 - ``alpha``.
        None: both have weight 1.

    Returns
    -------
    float
        The mean over the elements, not only over the positive ones.

    See Also
    --------
    focal_loss : From probabilities.
    binary_cross_entropy_with_logits : The same with ``gamma=0`` and ``alpha=None``; takes soft targets.

    Notes
    -----
    Value and gradient are accurate in both tails, without a clip, except that ``gamma`` multiplies
    the rounding error of the power. A logit of -inf gives the exact limit, 0 or inf; one of +inf or
    NaN gives NaN. The paper [1]_ divides the sum by the number of elements assigned to an object:
    give that number as ``normalizer``. torchvision's ``sigmoid_focal_loss`` has the same parameters
    and defaults except for its reduction, which is ``"none"``, and its ``alpha=-1``, which is None
    here. optax's ``sigmoid_focal_loss`` leaves ``alpha`` off and the mean to the caller.

    References
    ----------
    .. [1] T.-Y. Lin, P. Goyal, R. Girshick, K. He and P. Dollár, "Focal Loss for Dense Object
       Detection", ICCV 2017. arXiv:1708.02002.

    Examples
    --------
    >>> import numpy as np
    >>> from jitloss import focal_loss_with_logits
    >>> logits, targets = np.array([2.0, 0.0, -2.0, 1.0]), np.array([1, 1, 0, 0])
    >>> value, gradient = focal_loss_with_logits.value_and_gradient(logits, targets)
    >>> round(value, 4)
    0.1429
    >>> gradient.round(4)
    array([-0.0003, -0.0186,  0.0009,  0.144 ])

    As in the paper, divided by the number of positive elements:

    >>> round(focal_loss_with_logits(logits, targets, normalizer=2), 4)
    0.2858
    """
    side = where(target == 1.0, 1.0, -1.0)
    score = side * logit
    small, tail = split(logit)
    likely = 1.0 / (1.0 + small)
    right = likely * where(score >= 0.0, 1.0, small)
    wrong = likely * where(score >= 0.0, small, 1.0)
    loss = where(score < 0.0, -score, 0.0) + tail
    weight = 1.0 if alpha is None else where(target == 1.0, alpha, 1.0 - alpha)
    general = exp(-times(gamma, where(score > 0.0, score, 0.0) + tail))  # wrong ** gamma, exact in both tails
    focus = weight * where(gamma == 2.0, wrong * wrong, general)
    slope = wrong + gamma * times(right, loss)
    bend = right * (gamma * slope + wrong * (1.0 + gamma)) - gamma * wrong * times(right, loss)
    return focus * loss, -side * focus * slope, focus * bend


@pointwise
def hinge_loss(prediction: Real, target: Sign):
    r"""Hinge loss of a margin classifier.

    The loss of a support vector machine: a score that is on the right side of 0 by a margin of 1 costs
    nothing, others cost their distance from it. Choose it where only the decision matters; for
    probabilities, :func:`binary_cross_entropy_with_logits`.

    .. math::

        \frac{1}{n} \sum_{i=1}^{n} \max(0, 1 - t_i p_i)

    over :math:`n` scores :math:`p` and targets :math:`t`. The gradient, before the factor :math:`1/n`,
    is

    .. math::

        \begin{cases}
        -t_i & \text{if } t_i p_i < 1 \\
        0 & \text{otherwise}
        \end{cases}

    and the second derivative is 0.

    Parameters
    ----------
    predictions : array_like
        Scores, any real numbers, positive for the positive class; of any shape.
    targets : array_like
        -1 or 1, or bools, where False stands for -1; of the shape of ``predictions``. Numbers are taken
        as they are: turn targets of 0 and 1 into bools first.

    Returns
    -------
    float
        The mean over the elements.

    See Also
    --------
    binary_cross_entropy_with_logits : Smooth, and gives probabilities.

    Notes
    -----
    At the kink, where :math:`t p = 1`, the gradient is 0. scikit-learn's ``hinge_loss`` has the
    same value for targets of -1 and 1, and takes the targets first. Keras' ``Hinge`` turns targets
    of 0 into -1; here only bools are converted. The loss is that of [1]_.

    References
    ----------
    .. [1] C. Cortes and V. Vapnik, "Support-Vector Networks", Machine Learning 20, 273-297, 1995.

    Examples
    --------
    >>> import numpy as np
    >>> from jitloss import hinge_loss
    >>> predictions, targets = np.array([2.0, 0.5, 0.5, 1.0]), np.array([1, 1, -1, 1])
    >>> hinge_loss.value_and_gradient(predictions, targets)
    (0.5, array([-0.  , -0.25,  0.25, -0.  ]))

    Bools are targets too:

    >>> hinge_loss(predictions, targets > 0, reduction="none")
    array([0. , 0.5, 1.5, 0. ])
    """
    value = maximum(1.0 - target * prediction, 0.0)
    return value, -target * sign(value), 0.0
