"""Dense and ReLU on [CLS], as DistilBERT's classifiers have it; newly initialised where the checkpoint is none."""

from pipeline.poolings import fresh


class Pooling(fresh.Pooling):
    """See pipeline.poolings.Pooling."""

    activation = "relu"
