"""Deployment: exports with a parity gate, prediction with any of them, tiling, explanation, evaluation.

No import here loads TensorFlow: conversions and Keras models do when they are used.
"""

from benchmark.deployment.attribution import Explainer, open_explainer
from benchmark.deployment.description import EXPORT, Deployment
from benchmark.deployment.evaluation import Evaluation, evaluate
from benchmark.deployment.export import (
    ExportResult,
    export_model,
    put_exports,
    time_exports,
)
from benchmark.deployment.frozen import frozen_function
from benchmark.deployment.heatmap import blended, picture_name
from benchmark.deployment.kit import (
    Answers,
    KitEntry,
    answers_of,
    check_place,
    check_scored,
    kit_origin,
    kit_targets,
    write_kit,
)
from benchmark.deployment.opening import export_folders, find_model, open_model
from benchmark.deployment.prediction import Prediction, predict
from benchmark.deployment.predictor import Predictor
from benchmark.deployment.ssh import check_destination, measure_over_ssh
from benchmark.deployment.targets import (
    Target,
    Tolerance,
    find_target,
    parse_targets,
    require_packages,
    target_names,
)
from benchmark.deployment.tiling import predict_tiles
