"""Reporting: the board as CSV, JSON, Markdown, web page, plots and terminal table; two runs compared."""

from benchmark.reporting.board_files import read_board
from benchmark.reporting.commands import export_command, next_commands
from benchmark.reporting.compare import compare_runs, comparison_table
from benchmark.reporting.evaluation_files import evaluation_folder, write_evaluation
from benchmark.reporting.judged_images import JudgedImages
from benchmark.reporting.model_page import (
    PAGE_FILE,
    ExportUse,
    ModelCard,
    ModelReport,
    ShownImage,
    refresh_exports,
    write_card,
    write_model_page,
)
from benchmark.reporting.notebook import CellLine, board_html, in_notebook
from benchmark.reporting.page import Extras
from benchmark.reporting.pick_errors import pick_errors
from benchmark.reporting.plots import Plot, plot_makers
from benchmark.reporting.prediction_page import PredictionPage, write_prediction_page
from benchmark.reporting.run_record import (
    RUN_FILE,
    BackboneRecord,
    DataRecord,
    RunRecord,
    image_list,
    read_image_list,
    write_image_list,
)
from benchmark.reporting.study_files import data_shown, rules_shown, study_html, write_study
from benchmark.reporting.terminal import BoardTable
from benchmark.reporting.write import (
    BOARD_FILES,
    class_scores,
    read_rejected,
    remove_files,
    write_board,
    write_page,
    write_rejected,
    write_table,
)
