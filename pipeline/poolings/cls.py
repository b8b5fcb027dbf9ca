"""The checkpoint's own pooler: dense and tanh on [CLS]."""

from pipeline.errors import UserError


class Pooling:
    """See pipeline.poolings.Pooling."""

    first_only = True
    uses_pooler = True

    def __init__(self, backbone, seed, dtype):
        self.layers = []
        self._dense = backbone.pooled_dense

    @classmethod
    def check(cls, loaded):
        if not loaded.has_pooler:
            raise UserError(f"model.pooling cls: {loaded.source} has no pooler weights; use fresh or mean.")

    def __call__(self, outputs, padding_mask):
        return outputs["pooled_output"]

    def served(self, weights):
        dense = weights.dense(self._dense)
        return lambda states, padding_mask: dense(states)
