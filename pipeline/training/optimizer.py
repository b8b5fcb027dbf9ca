"""AdamW and LAMB for BERT: correct on several devices, and fast on large word embeddings."""

import re
from functools import partial
from typing import NamedTuple

import keras
import tensorflow as tf

from pipeline.config import TrainingConfig
from pipeline.training.schedule import WarmupDecay


class Rates(NamedTuple):
    """What an update has in common for all variables, float32 scalars. Takes the place of Keras' learning rate."""

    learning_rate: tf.Tensor
    power_1: tf.Tensor
    """beta_1 to the power of the number of this update, from 1."""
    power_2: tf.Tensor


class AdamW(keras.optimizers.AdamW):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019), the update of `keras.optimizers.AdamW`, and

    - the gradient is clipped by its global norm after it has been summed over the devices (Keras clips before,
      which is another, wrong, number on two devices);
    - every variable has its own multiple of the learning rate (`set_scales`);
    - a sparse gradient (the word embeddings) updates only the rows that it names, as LazyAdam does;
    - a dense update is one fused kernel in place of about ten passes over memory;
    - moving averages of the weights (`use_ema`) remember no more than the updates so far: their decay is at most
      (1 + updates) / (10 + updates), as in `tf.train.ExponentialMovingAverage`.

    Args:
        learning_rate: float or schedule.
        clip_norm: largest global norm of the gradient; None: not clipped.
        lazy: False: make sparse gradients dense, so that all rows are updated.
        kwargs: as `keras.optimizers.AdamW`.
    """

    def __init__(self, learning_rate, *, clip_norm: float | None = None, lazy: bool = True, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.schedule = learning_rate
        self.clip_norm = clip_norm
        self.lazy = lazy
        self.compiled = False
        """Whether XLA compiles the updates; on one device only."""
        self._scales: dict[str, float] = {}

    def set_scales(self, scales: dict[str, float]) -> None:
        """Multiples of the learning rate by variable path; 1 for those not named."""
        self._scales = dict(scales)

    # The methods below are the places where keras.optimizers does its clipping, its weight decay, its sum over
    # devices and its averages; tests compare the outcome with stock Keras on one device and with one device on two.

    def _clip_gradients(self, grads):
        return grads

    def _apply_weight_decay(self, variables):
        pass

    def _all_reduce_sum_gradients(self, grads_and_vars):
        gradients, variables = zip(*super()._all_reduce_sum_gradients(grads_and_vars), strict=True)
        if self.compiled:
            return list(zip(gradients, variables, strict=True))
        gradients = [self._sum_rows(gradient) for gradient in gradients]
        if self.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm)
        return list(zip(gradients, variables, strict=True))

    def _update_model_variables_moving_average(self, trainable_variables):
        updates = tf.cast(self.iterations.value, tf.float32)
        decay = tf.minimum(self.ema_momentum, (1.0 + updates) / (10.0 + updates))
        # Keras' averages begin at 0.
        decay = tf.where(updates > 0, decay, 0.0)
        for variable, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            average.assign(decay * average + (1.0 - decay) * variable)

    def finalize_variable_values(self, var_list):
        """Keras ends every fit with the averages in place of the weights; a run fits many times (averaging.py)."""

    def overwrite_with_averages(self, variables: list[keras.Variable]) -> None:
        """Give the variables, all that it was built with, their moving averages."""
        self._overwrite_model_variables_with_average_value(variables)

    def _sum_rows(self, gradient):
        """A sparse gradient with every row named once (needed for a right norm), or made dense."""
        if not isinstance(gradient, tf.IndexedSlices):
            return gradient
        if not self.lazy:
            return tf.convert_to_tensor(gradient)
        rows, where = tf.unique(gradient.indices)
        values = tf.math.unsorted_segment_sum(gradient.values, where, tf.size(rows))
        return tf.IndexedSlices(values, rows, gradient.dense_shape)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        # Once for all variables: on a GPU each scalar is a kernel to launch.
        step = tf.cast(self.iterations.value + 1, tf.float32)
        rates = Rates(tf.cast(learning_rate, tf.float32), tf.pow(self.beta_1, step), tf.pow(self.beta_2, step))
        if self.compiled:
            self._compiled_update(grads, trainable_variables, rates)
        else:
            super()._backend_update_step(grads, trainable_variables, rates)

    def _compiled_update(self, gradients: list, variables: list, rates: Rates) -> None:
        """The same update in a few programs of XLA's; the large one is the same for all lengths of a batch."""
        compiled = partial(tf.function, jit_compile=True, autograph=False)
        pairs = [(g, variable.value) for g, variable in zip(gradients, variables, strict=True)]
        rows = [(g, v) for g, v in pairs if isinstance(g, tf.IndexedSlices)]
        dense = [(g, v) for g, v in pairs if not isinstance(g, tf.IndexedSlices)]
        if not self.lazy:
            dense += [(compiled(tf.convert_to_tensor)(gradient), variable) for gradient, variable in rows]
            rows = []
        sparse = [(*compiled(_rows_named_once)(gradient), variable) for gradient, variable in rows]

        @compiled
        def update_dense(gradients, squares, rates):
            """Returns what clipping multiplies gradients with."""
            factor = tf.constant(1.0)
            if self.clip_norm is not None:
                norm = tf.sqrt(tf.add_n([squares, *(tf.reduce_sum(tf.square(g)) for g in gradients)]))
                factor = self.clip_norm / tf.maximum(norm, self.clip_norm)
            for gradient, (_, variable) in zip(gradients, dense, strict=True):
                self.update_step(gradient * factor, variable, rates)
            return factor

        def update_rows(variable, gradient, factor, rates):
            self.update_step(tf.IndexedSlices(gradient.values * factor, gradient.indices), variable, rates)

        squares = tf.add_n([tf.constant(0.0), *(square for _, square, _ in sparse)])
        factor = update_dense([gradient for gradient, _ in dense], squares, rates)
        for gradient, _, variable in sparse:
            compiled(partial(update_rows, variable))(gradient, factor, rates)

    def update_step(self, gradient, variable, rates):
        rate, decay = self._rate(variable, rates)
        momentum, velocity = self._moments(variable)
        if not isinstance(gradient, tf.IndexedSlices):
            if decay is not None:
                variable.assign(variable * (1.0 - decay))
            self._fused(gradient, variable, rate, rates)
            return
        rows, gradient = gradient.indices, gradient.values
        m = self.beta_1 * tf.gather(momentum, rows) + (1.0 - self.beta_1) * gradient
        v = self.beta_2 * tf.gather(velocity, rows) + (1.0 - self.beta_2) * tf.square(gradient)
        old = tf.gather(variable, rows)
        new = old if decay is None else old * (1.0 - decay)
        new -= rate * tf.sqrt(1.0 - rates.power_2) / (1.0 - rates.power_1) * m / (tf.sqrt(v) + self.epsilon)
        for target, values in ((momentum, m), (velocity, v), (variable, new)):
            target.scatter_update(tf.IndexedSlices(values, rows))

    def _rate(self, variable, rates: Rates) -> tuple[tf.Tensor, tf.Tensor | None]:
        """What a variable moves by, and the share of it that decays; None: nothing."""
        scale = self._scales.get(self._trainable_variables[self._get_variable_index(variable)].path, 1.0)
        rate = rates.learning_rate if scale == 1.0 else rates.learning_rate * scale
        return rate, rate * self.weight_decay if self.weight_decay and self._use_weight_decay(variable) else None

    def _moments(self, variable):
        index = self._get_variable_index(variable)
        return self._momentums[index].value, self._velocities[index].value

    def _fused(self, gradient: tf.Tensor, variable, rate: tf.Tensor, rates: Rates) -> None:
        """Both moments and the step, in one pass."""
        momentum, velocity = self._moments(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle, m=momentum.handle, v=velocity.handle, beta1_power=rates.power_1,
            beta2_power=rates.power_2, lr=rate, beta1=self.beta_1, beta2=self.beta_2, epsilon=self.epsilon,
            grad=gradient,
        )  # fmt: skip


def _rows_named_once(gradient: tf.IndexedSlices) -> tuple[tf.IndexedSlices, tf.Tensor]:
    """As many rows as before, for XLA, and the sum of their squares.

    The sum of a row that is named again stands at its first place. At its other places stand zeros, under a number
    behind the last row, which XLA's gather takes for that row and its scatter leaves out.
    """
    behind, count = gradient.dense_shape[0], tf.size(gradient.indices)
    places = tf.range(count)
    first = tf.tensor_scatter_nd_min(tf.fill([behind], count), gradient.indices[:, None], places)
    place = tf.gather(first, gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, place, count)
    rows = tf.where(place == places, gradient.indices, tf.cast(behind, gradient.indices.dtype))
    return tf.IndexedSlices(values, rows, gradient.dense_shape), tf.reduce_sum(tf.square(values))


class Lamb(AdamW):
    """LAMB (You et al., 2020): Adam's step with its weight decay, scaled to the norm of each variable.

    It keeps large batches (thousands) stable in pre-training. Biases and layer normalisation, which do not decay, are
    not scaled either, as in the authors' implementation. All gradients are made dense.
    """

    def __init__(self, learning_rate, **kwargs):
        super().__init__(learning_rate, **kwargs | {"lazy": False})

    def update_step(self, gradient, variable, rates):
        index = self._get_variable_index(variable)
        momentum, velocity = self._momentums[index], self._velocities[index]
        momentum.assign(self.beta_1 * momentum + (1.0 - self.beta_1) * gradient)
        velocity.assign(self.beta_2 * velocity + (1.0 - self.beta_2) * tf.square(gradient))
        m = momentum / (1.0 - rates.power_1)
        v = velocity / (1.0 - rates.power_2)
        update = m / (tf.sqrt(v) + self.epsilon)
        ratio = 1.0
        if self.weight_decay and self._use_weight_decay(variable):
            update += self.weight_decay * variable
            norm, update_norm = tf.norm(variable), tf.norm(update)
            ratio = tf.where((norm > 0) & (update_norm > 0), norm / update_norm, 1.0)
        variable.assign(variable - rates.learning_rate * ratio * update)


def make_optimizer(config: TrainingConfig, model: keras.Model, total_steps: int, kind: type[AdamW] = AdamW) -> AdamW:
    """The optimizer of a fine-tuning run, built on the model's variables inside the current strategy scope.

    Args:
        config: the training section.
        model: the classifier.
        total_steps: updates of the whole run, for the schedule.
        kind: of optimizer.
    """
    schedule = WarmupDecay(config.learning_rate, total_steps, round(config.warmup * total_steps), config.schedule)
    optimizer = kind(
        schedule,
        weight_decay=config.weight_decay,
        epsilon=1e-6,
        clip_norm=config.clip_norm,
        lazy=config.embedding_update == "lazy",
        use_ema=config.ema is not None,
        ema_momentum=config.ema or 0.0,
    )
    scales = layer_scales(model, config.layer_decay)
    optimizer.set_scales(scales | fusion_scales(model, config.columns_learning_rate / config.learning_rate))
    return build(optimizer, model)


def build(optimizer: AdamW, model: keras.Model) -> AdamW:
    """Make an optimizer's variables and exclude from weight decay those that `decays` is false for."""
    variables = model.trainable_variables
    optimizer.exclude_from_weight_decay(var_list=[variable for variable in variables if not decays(variable)])
    optimizer.build(variables)
    return optimizer


def decays(variable: keras.Variable) -> bool:
    """Whether weight decay applies: to matrices, not to biases and layer normalisation (as google-research/bert).

    Keras names the latter beta and gamma; biases of attention are matrices [heads, size], so shapes do not tell.
    """
    return variable.name not in ("bias", "beta", "gamma")


def layer_scales(model: keras.Model, decay: float) -> dict[str, float]:
    """Layer-wise learning-rate decay (Howard and Ruder, 2018): `decay` ** (layers between a variable and the head).

    The head and the pooler have 1, transformer layer i of n has decay ** (n - i), embeddings decay ** (n + 1).
    """
    if decay == 1.0:
        return {}
    depths = {variable.path: _depth(variable.path) for variable in model.trainable_variables}
    top = max((depth for depth in depths.values() if depth is not None), default=0)
    return {path: decay ** (top + 1 - depth) for path, depth in depths.items() if depth is not None}


def fusion_scales(model: keras.Model, scale: float) -> dict[str, float]:
    """One multiple for the layers that columns beside the text go through; none where there are no columns."""
    parts = getattr(model, "classifier_parts", None)
    if parts is None or parts.fusion is None:
        return {}
    return {variable.path: scale for variable in [*parts.fusion.trainable_weights, *parts.head.trainable_weights]}


def _depth(path: str) -> int | None:
    layer = re.search(r"transformer_layer_(\d+)/", path)
    if layer:
        return int(layer.group(1)) + 1
    return 0 if "embedding" in path else None
