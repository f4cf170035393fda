"""What is asked for: queries, the encoders that place them on one unit sphere, fusion, mixup and negatives."""

from marssep.query.bank import EmbeddingBank
from marssep.query.encoder import (
    ENCODERS,
    QueryEncoder,
    load_encoder,
    load_heads,
    new_encoder,
    save_heads,
)
from marssep.query.features import TrunkFeatures
from marssep.query.fusion import fuse, negate, query_mixup
from marssep.query.query import Query, QueryParts, embed_query, read_query
from marssep.query.readings import Readings
from marssep.query.regions import Region, check_regions, describe_region, describe_time, parse_regions
from marssep.query.weights import fetch
from marssep.runtime.fusing import DEFAULT_WEIGHTS, MODALITIES, Modality

__all__ = [
    "DEFAULT_WEIGHTS",
    "ENCODERS",
    "MODALITIES",
    "EmbeddingBank",
    "Modality",
    "Query",
    "QueryEncoder",
    "QueryParts",
    "Readings",
    "Region",
    "TrunkFeatures",
    "check_regions",
    "describe_region",
    "describe_time",
    "embed_query",
    "fetch",
    "fuse",
    "load_encoder",
    "load_heads",
    "negate",
    "new_encoder",
    "parse_regions",
    "query_mixup",
    "read_query",
    "save_heads",
]
