"""The pooler of BERT, dense and tanh on [CLS], newly initialised."""

import keras


class Pooling:
    """See pipeline.poolings.Pooling."""

    first_only = True
    uses_pooler = False
    activation = "tanh"

    def __init__(self, backbone, seed, dtype):
        initializer = keras.initializers.TruncatedNormal(stddev=0.02, seed=seed)
        self._dense = keras.layers.Dense(
            backbone.hidden_dim, activation=self.activation, kernel_initializer=initializer, dtype=dtype, name="pooler"
        )
        self.layers = [self._dense]

    @classmethod
    def check(cls, loaded):
        pass

    def __call__(self, outputs, padding_mask):
        return self._dense(outputs["sequence_output"][:, 0])

    def served(self, weights):
        dense = weights.dense(self._dense)
        return lambda states, padding_mask: dense(states)
