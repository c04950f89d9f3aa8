"""What MLflow is told: every condensation and evaluation becomes a run, those of a set beneath the set's own.

Jobs only write files. One process (`ingestion`) reads the finished ones (`sources`), turns each into a record
(`records`) and writes that as a run (`runs`) into a store (`stores`); beside a workflow that runs, `follower`
does so again and again.
"""

from condense.tracking.ingestion import Summary, ingest
from condense.tracking.records import flat, thinned

__all__ = ["Summary", "flat", "ingest", "thinned"]
