"""A backbone for texts of which parts are redacted: each placeholder is one token."""

import dataclasses

from pipeline.backbone.extend import extend_backbone
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.redaction.kinds import Redaction
from pipeline.tokenizer_rules import AddedToken


def with_placeholders(loaded: LoadedBackbone, redaction: Redaction, lowercase: bool | None) -> LoadedBackbone:
    """The backbone with the placeholders of a redaction in its vocabulary, where they are missing, and found in text.

    Args:
        loaded: left as it is.
        redaction: of at least one kind.
        lowercase: as the texts are read; None: as the checkpoint says.
    """
    missing = [token for token in redaction.placeholders if token not in loaded.vocabulary]
    if missing:
        loaded = extend_backbone(loaded, missing, loaded.text_encoder(lowercase))
    listed = {token.content for token in loaded.rules.added_tokens}
    found = tuple(AddedToken(token) for token in redaction.placeholders if token not in listed)
    rules = dataclasses.replace(loaded.rules, added_tokens=loaded.rules.added_tokens + found)
    # A tokenizer with tokens of its own is written down whole: it says so, where the checkpoint did not.
    lowercase = (loaded.lowercase if lowercase is None else lowercase) is not False
    return dataclasses.replace(loaded, lowercase=lowercase, rules=rules, redaction=redaction)
