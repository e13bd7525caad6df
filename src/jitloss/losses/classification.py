"""Losses of one class among several: a row of probabilities or logits against a label or a distribution."""

from dataclasses import KW_ONLY

from ..definition import Classes, Distribution, Epsilon, Logit, NonNegative, Positive, Probability, rowwise
from ..math import exp, log, maximum, tanh, times, where


@rowwise
class cross_entropy_loss:
    r"""Cross-entropy of a row of probabilities and a class label or a distribution.

    For a model that gives the probabilities of several classes of which one is right. Where the model
    computes logits, leave out its softmax and choose :func:`cross_entropy_with_logits`, which needs no
    clip at any confidence.

    .. math::

        -\frac{1}{N} \sum_{i=1}^{N} \sum_{k=1}^{C} t_{ik} \log \max(p_{ik}, \varepsilon)

    over :math:`N` rows of :math:`C` probabilities :math:`p` and targets :math:`t`; a label stands for 1
    at its class and 0 elsewhere. The gradient, before the factor :math:`1/N`, is

    .. math::

        -\frac{t_{ik}}{\max(p_{ik}, \varepsilon)}

    and the diagonal of the second derivative is :math:`t_{ik} / \max(p_{ik}, \varepsilon)^2`.

    Parameters
    ----------
    predictions : array_like
        Probabilities in [0, 1], a row of them along ``axis``. A row should sum to 1; it is not
        normalised.
    targets : array_like
        Integer labels from 0 to C - 1, of the shape of ``predictions`` without ``axis``; or dense
        targets of the shape of ``predictions``, a weight for each class that is not negative.
    epsilon : float, default 1e-7
        Lower bound to which probabilities are clipped, a number strictly between 0 and 0.5; never
        less than 2**-24 in float32 arithmetic.

    Returns
    -------
    float
        The mean over the rows that are not ignored.

    See Also
    --------
    cross_entropy_with_logits : From logits, without a clip.
    kl_divergence : The same gradient; the value is 0 where predictions equal the targets.
    binary_cross_entropy : Two classes, or several independent labels.

    Notes
    -----
    The gradient is taken at the clipped point: :math:`-t / \varepsilon` where the probability is
    smaller, so that it is finite and does not vanish on a confident mistake. Keras divides a row by its
    sum and clips it from both sides, and where it clips the gradient is 0. PyTorch's ``nll_loss`` takes
    logarithms of probabilities and has the classes on axis 1: ``axis=1`` here. Its mean under class
    weights is ``normalizer="weights"``. Label smoothing is that of [1]_.

    References
    ----------
    .. [1] C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens and Z. Wojna, "Rethinking the Inception
       Architecture for Computer Vision", CVPR 2016. arXiv:1512.00567.

    Examples
    --------
    >>> import numpy as np
    >>> from jitloss import cross_entropy_loss
    >>> predictions = np.array([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125]])
    >>> value, gradient = cross_entropy_loss.value_and_gradient(predictions, [0, 2])
    >>> round(value, 4)
    1.3863
    >>> gradient
    array([[-1., -0., -0.],
           [-0., -0., -4.]])

    Dense targets have a row for each row of predictions:

    >>> targets = np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    >>> round(cross_entropy_loss(predictions, targets), 4)
    0.9384
    """

    epsilon: Epsilon = 1e-7

    def terms(prediction: Probability, target: Classes, epsilon):
        return target * log(maximum(prediction, epsilon))

    def value(sums):
        return -sums

    def slope(prediction, target, epsilon):
        clipped = maximum(prediction, epsilon)
        gradient = -target / clipped
        return gradient, -gradient / clipped


@rowwise
class kl_divergence:
    r"""Kullback-Leibler divergence of a row of probabilities from a target distribution.

    The information lost when the predicted distribution is used for the target: 0 where both are
    equal, more elsewhere. Choose it where the targets are distributions, of a teacher model or of
    several annotators, and the value should say how far they are. :func:`cross_entropy_loss` has
    the same gradient; its value includes the entropy of the targets, and it takes labels.

    .. math::

        \frac{1}{N} \sum_{i=1}^{N} \sum_{k=1}^{C} t_{ik}
        \left( \log t_{ik} - \log \max(p_{ik}, \varepsilon) \right)

    over :math:`N` rows of :math:`C` predicted probabilities :math:`p` and target probabilities
    :math:`t`. The gradient, before the factor :math:`1/N`, is

    .. math::

        -\frac{t_{ik}}{\max(p_{ik}, \varepsilon)}

    and the diagonal of the second derivative is :math:`t_{ik} / \max(p_{ik}, \varepsilon)^2`.

    Parameters
    ----------
    predictions : array_like
        Probabilities in [0, 1], not their logarithms, a row of them along ``axis``. A row should sum to
        1; it is not normalised.
    targets : array_like
        Target probabilities in [0, 1], of the shape of ``predictions``. A target of 0 contributes 0.
    epsilon : float, default 1e-7
        Lower bound to which predicted probabilities are clipped, a number strictly between 0 and
        0.5; never less than 2**-24 in float32 arithmetic.

    Returns
    -------
    float
        The mean over the rows, in nats.

    See Also
    --------
    cross_entropy_loss : The same gradient; takes labels, class weights and label smoothing.
    cross_entropy_with_logits : The same gradient with respect to logits.

    Notes
    -----
    The gradient is taken at the clipped point: :math:`-t / \varepsilon` where the probability is
    smaller, so that it is finite and does not vanish on a confident mistake. PyTorch's ``kl_div`` and
    optax's ``kl_divergence`` take the logarithm of the predictions; PyTorch's default mean is over
    elements, and its ``reduction="batchmean"`` is the mean over rows that is taken here. Keras clips
    the targets too. The divergence is that of [1]_.

    References
    ----------
    .. [1] S. Kullback and R. A. Leibler, "On Information and Sufficiency", The Annals of Mathematical
       Statistics 22(1), 79-86, 1951.

    Examples
    --------
    >>> import numpy as np
    >>> from jitloss import kl_divergence
    >>> predictions = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]])
    >>> targets = np.array([[0.5, 0.25, 0.25], [0.5, 0.5, 0.0]])
    >>> value, gradient = kl_divergence.value_and_gradient(predictions, targets)
    >>> round(value, 4)
    0.1733
    >>> gradient
    array([[-0.5, -0.5, -0.5],
           [-1. , -0.5, -0. ]])

    The divergence of each row; the first row is predicted exactly:

    >>> kl_divergence(predictions, targets, reduction="none").round(4)
    array([0.    , 0.3466])
    """

    epsilon: Epsilon = 1e-7

    def terms(prediction: Probability, target: Distribution, epsilon):
        ratio = target / maximum(prediction, epsilon)
        return where(target == 0.0, ratio, target * log(ratio)), ratio

    def value(sums):
        divergence, _ = sums
        return divergence

    def slope(prediction, terms, epsilon):
        _, ratio = terms
        return -ratio, ratio / maximum(prediction, epsilon)


def capped(logit, softcap):
    """The logit squashed into (-softcap, softcap)."""
    return logit if softcap is None else softcap * tanh(logit / softcap)


@rowwise
class cross_entropy_with_logits:
    r"""Cross-entropy of the softmax of a row of logits and a class label or a distribution.

    The usual loss of a classifier of several classes of which one is right, and of a language model:
    softmax and cross-entropy in one, with no clip at any confidence. Where several classes may be
    right at once, choose :func:`binary_cross_entropy_with_logits`; where probabilities come from
    elsewhere, :func:`cross_entropy_loss`.

    .. math::

        -\frac{1}{N} \sum_{i=1}^{N} \sum_{k=1}^{C} t_{ik}
        \log \frac{e^{z_{ik}}}{\sum_{j=1}^{C} e^{z_{ij}}}

    over :math:`N` rows of :math:`C` logits :math:`z` and targets :math:`t`; a label stands for 1 at its
    class and 0 elsewhere. The gradient, before the factor :math:`1/N`, is

    .. math::

        T_i s_{ik} - t_{ik}, \quad s_{ik} = \frac{e^{z_{ik}}}{\sum_{j=1}^{C} e^{z_{ij}}}, \quad
        T_i = \sum_{j=1}^{C} t_{ij}

    and the diagonal of the second derivative is :math:`T_i s_{ik} (1 - s_{ik})`.

    Parameters
    ----------
    logits : array_like
        Unnormalised log-probabilities, any real numbers or -inf for a class that is masked out, a row
        of them along ``axis``.
    targets : array_like
        Integer labels from 0 to C - 1, of the shape of ``logits`` without ``axis``; or dense targets of
        the shape of ``logits``, a weight for each class that is not negative, which need not sum to 1.
    z_loss : float or None, default None
        A number :math:`\zeta` that is not negative: each row's value gains
        :math:`\zeta (\log \sum_k e^{z_{ik}})^2`, which keeps logits near 0; 1e-4 in PaLM [2]_.
        Sample weights scale it, class weights and the targets' sum do not. None: off.
    softcap : float or None, default None
        A positive number :math:`c`: logits first become :math:`c \tanh(z / c)`, as in Gemma 2 [3]_;
        infinite ones become :math:`\pm c`, so that -inf masks no class. The gradient is with
        respect to the original logits. None: off.

    Returns
    -------
    float
        The mean over the rows that are not ignored, in nats.

    See Also
    --------
    cross_entropy_loss : From probabilities.
    binary_cross_entropy_with_logits : One logit and a binary target.
    focal_loss_with_logits : Down-weights well-classified elements.

    Notes
    -----
    Nothing overflows: logits of 1e4 and -1e4 give the limits. The value of a row whose label is
    almost certain, and the gradient at that label, are differences of numbers near 1 and have their
    absolute accuracy: beyond a lead of about 17 in float32, 37 in float64, they are 0. A logit of
    -inf is a class of probability 0: it contributes 0 where its target is 0, and makes the value
    inf where it is not. A logit of +inf or NaN makes its row NaN, and no other.

    PyTorch's ``cross_entropy`` has the classes on axis 1: ``axis=1`` here. Its mean under class weights
    is ``normalizer="weights"``; ``ignore_index`` and ``label_smoothing`` [1]_ mean the same. Keras'
    ``CategoricalCrossentropy`` takes logits with ``from_logits=True`` only. optax's
    ``softmax_cross_entropy`` gives values per row: ``reduction="none"``.

    References
    ----------
    .. [1] C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens and Z. Wojna, "Rethinking the Inception
       Architecture for Computer Vision", CVPR 2016. arXiv:1512.00567.
    .. [2] A. Chowdhery et al., "PaLM: Scaling Language Modeling with Pathways", 2022.
       arXiv:2204.02311.
    .. [3] Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size", 2024.
       arXiv:2408.00118.

    Examples
    --------
    >>> import numpy as np
    >>> from jitloss import cross_entropy_with_logits
    >>> logits, labels = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), np.array([0, 2])
    >>> value, gradient = cross_entropy_with_logits.value_and_gradient(logits, labels)
    >>> round(value, 4)
    0.7531
    >>> gradient.round(4)
    array([[-0.1674,  0.1224,  0.045 ],
           [ 0.1667,  0.1667, -0.3333]])

    A row with the label ``ignore_index`` counts for nothing:

    >>> round(cross_entropy_with_logits(logits, [0, -100]), 4)
    0.4076

    ``out`` writes the gradient over the logits, where they are no longer needed:

    >>> value, gradient = cross_entropy_with_logits.value_and_gradient(logits, labels, out=logits)
    >>> gradient is logits
    True
    """

    _: KW_ONLY
    z_loss: NonNegative | None = None
    softcap: Positive | None = None

    def peak(logit, softcap):
        return capped(logit, softcap)

    def terms(logit: Logit, target: Classes, peak, softcap):
        shifted = capped(logit, softcap) - peak
        return exp(shifted), times(target, shifted), target

    def value(peak, sums, z_loss):
        total, alignment, mass = sums
        log_total = log(total)
        value = mass * log_total - alignment
        if z_loss is None:
            return value, mass / total, 1.0 / total
        log_sum = peak + log_total
        return value + z_loss * log_sum * log_sum, (mass + 2.0 * z_loss * log_sum) / total, 1.0 / total

    def slope(logit, target, terms, scale, share, z_loss, softcap):
        height, _, _ = terms  # exp(capped logit - peak), computed once
        probability = height * share
        gradient = height * scale - target
        hessian = height * scale * (1.0 - probability)
        if z_loss is not None:
            hessian = hessian + 2.0 * z_loss * probability * probability
        if softcap is None:
            return gradient, hessian
        squash = tanh(logit / softcap)
        damping = 1.0 - squash * squash
        return gradient * damping, hessian * damping * damping - 2.0 * squash * damping / softcap * gradient
