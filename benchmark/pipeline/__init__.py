"""The loops of the product and their failure policy: embed, rank, fine-tune."""

from benchmark.pipeline.applying import evaluate_model, export_to, predict_images
from benchmark.pipeline.auditing import audit_data
from benchmark.pipeline.boards import Ranked
from benchmark.pipeline.bundling import check_bundle, collect_weights
from benchmark.pipeline.device_kits import add_device, make_kit, measure_device
from benchmark.pipeline.embedding import Embedded, embed, embed_images
from benchmark.pipeline.estimating import estimate_costs
from benchmark.pipeline.finetuning import FinetuneJob, finetune_backbones
from benchmark.pipeline.model_reports import report_predictions
from benchmark.pipeline.pixels import clean_buffers
from benchmark.pipeline.planning import Plan
from benchmark.pipeline.ranking import rank_backbones
from benchmark.pipeline.rebuilding import rebuild_report
from benchmark.pipeline.requests import EmbedRequest, RankRequest
from benchmark.pipeline.stored import stored_options
from benchmark.pipeline.studying import study_backbones
from benchmark.pipeline.subsets import take_rows
