"""Dense and GELU on [CLS], as ELECTRA's classifiers have it; newly initialised where the checkpoint is none."""

from pipeline.backbone.activations import gelu
from pipeline.poolings import fresh


class Pooling(fresh.Pooling):
    """See pipeline.poolings.Pooling."""

    activation = staticmethod(gelu)
