"""The loops of the product and their failure policy: embed, rank, fine-tune."""

from benchmark.pipeline.auditing import audit_data
from benchmark.pipeline.boards import Ranked
from benchmark.pipeline.bundling import bundle_backbones, check_bundle, fetch_backbones
from benchmark.pipeline.calls import rank
from benchmark.pipeline.embedding import Embedded, embed
from benchmark.pipeline.finetuning import FinetuneJob, finetune_backbones
from benchmark.pipeline.pixels import clean_scratch
from benchmark.pipeline.places import results_folder
from benchmark.pipeline.planning import Plan
from benchmark.pipeline.ranking import rank_backbones
from benchmark.pipeline.rebuilding import rebuild_report
from benchmark.pipeline.requests import EmbedRequest, RankRequest
from benchmark.pipeline.stored import stored_options
from benchmark.pipeline.workers import end_workers

__all__ = [
    "EmbedRequest",
    "Embedded",
    "FinetuneJob",
    "Plan",
    "RankRequest",
    "Ranked",
    "audit_data",
    "bundle_backbones",
    "check_bundle",
    "clean_scratch",
    "embed",
    "end_workers",
    "fetch_backbones",
    "finetune_backbones",
    "rank",
    "rank_backbones",
    "rebuild_report",
    "results_folder",
    "stored_options",
]
