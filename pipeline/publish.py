"""From a trained model to the one that is served: a copy in its numerics, proved equal, scored, and exported."""

import dataclasses
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from export.expected import Expected
from export.onnx_model import export_onnx
from export.savedmodel import HIDDEN, ExportSettings, HeldOut, export_verified
from export.signatures import SignatureOptions
from export.verify import rounding_tolerance
from pipeline.assemble import Assembly
from pipeline.classifier import rescale_logits, serving_copy
from pipeline.data.sources import read_metadata
from pipeline.data.split import Split
from pipeline.errors import UserError
from pipeline.evaluation.calibration import FEWEST_ROWS, Calibration, find_calibration
from pipeline.evaluation.made_texts import made_texts
from pipeline.evaluation.predict import BatchPredictor
from pipeline.evaluation.transformers_judge import judge
from pipeline.fitting import Fitting, find_fitting
from pipeline.privacy.statement import Statement, statement_of
from pipeline.published import highest_at, publish
from pipeline.tasks.task import Task

# Largest differences of a prediction between a trained and a served model, in the task's scale: float32 is as good as
# exact; bfloat16 rounds differently in the two, which near a tie is several hundredths.
EXACT, ROUNDED = 1e-3, 0.1


@dataclass
class Served:
    """The model that is served.

    Attributes:
        model: in the numerics that it is served in.
        predictor: asks it.
        texts: held-out texts, a list a column, on which it and its export are compared with what was trained; where
            there are no rows, made ones.
        predictions: of these texts, float32 [n, K].
        calibration: of its probabilities; None: they are as they were trained.
        fitting: how well texts fit, where answers have it; None: they have not.
        validated: its predictions for the validation rows, where they are known; None: not yet.
        privacy: what its training claims; None: it was not private.
    """

    model: keras.Model
    predictor: BatchPredictor
    texts: tuple[list[str], ...]
    predictions: np.ndarray
    calibration: Calibration | None = None
    fitting: Fitting | None = None
    validated: np.ndarray | None = None
    privacy: Statement | None = None

    def predict(self, split: Split) -> np.ndarray:
        """float32 [n, K], of the rows of one of the run's splits."""
        known = self.validated if split.name == "validation" else None
        return self.predictor(split) if known is None else known

    def about(self) -> dict[str, str]:
        """For the report."""
        found = {"calibration": str(self.calibration)} if self.calibration else {}
        found |= {"fit": str(self.fitting)} if self.fitting else {}
        return found | ({"privacy": self.privacy.sentence()} if self.privacy else {})

    def metrics(self) -> dict[str, Any]:
        """For metrics.json."""
        found = {"calibration": self.calibration.summary()} if self.calibration else {}
        found |= {"fit": self.fitting.summary()} if self.fitting else {}
        return found | ({"privacy": self.privacy.metadata()} if self.privacy else {})


def serve(run: Assembly) -> Served:
    """Copy the trained model into the numerics of serving, proved equal, then calibrated; a finished checkpoint is
    compared with transformers too.

    Raises:
        UserError: the copy answers otherwise than the trained model.
    """
    model = serving_copy(run.model, run.serving_dtype, run.config.export.weights)
    predict = run.predictor(model, run.serving_encoder)
    texts = _held_out_texts(run)
    # In the tokens of training, also where longer texts are served.
    trained = run.predictor(run.model, run.encoder).texts(texts)
    same = run.serving_encoder is run.encoder
    served = (predict if same else run.predictor(model, run.encoder)).texts(texts)
    exact = (run.dtype, run.serving_dtype) == ("float32", "float32") and run.config.export.weights != "bfloat16"
    require_equal(trained, served, (EXACT if exact else ROUNDED) * run.data.task.scale)
    if run.config.training.epochs == 0:
        _judge(run, texts, trained)
    calibration, validated = _calibrate(run, model, predict)
    privacy = statement_of(Path(str(run.config.run_dir)))
    fitting = find_fitting(run, model, texts)
    return Served(model, predict, texts, predict.texts(texts), calibration, fitting, validated, privacy)


def _calibrate(
    run: Assembly, model: keras.Model, predict: BatchPredictor
) -> tuple[Calibration | None, np.ndarray | None]:
    """Change the model to be served so that its probabilities suit the validation rows, and say so; or leave it, with
    its predictions for these rows, where it was asked for them."""
    rows = run.data.validation
    if run.config.evaluation.calibration == "none" or rows is None or not run.updates:
        return None, None
    predictions = predict(rows)
    found = find_calibration(run.data.task, rows.targets(), predictions, run.config.training.seed)
    if found is None:
        if run.data.task.labelled and len(rows) < FEWEST_ROWS:
            print(
                f"note: {len(rows)} validation rows are too few to calibrate probabilities by, which takes "
                f"{FEWEST_ROWS}: they stay as they were trained"
            )
        return None, predictions
    rescale_logits(model, found.line.scale, found.line.shift)
    print(f"calibrated: {found}")
    return found, None


def _held_out_texts(run: Assembly) -> tuple[list[str], ...]:
    """Of at most export.verify_examples rows; they are kept with the model, so nothing is in them that is redacted."""
    count = run.config.export.verify_examples
    held_out = run.data.test or run.data.validation or run.data.train
    if held_out is None or run.config.training.privacy.on:
        return made_texts(run.encoder, len(run.data.features.inputs), count)
    every = math.ceil(len(held_out) / count)
    cells, texts = held_out.cells(slice(None, None, every)), len(run.data.features.text_columns)
    columns = [*(run.encoder.redacted(column).numpy() for column in cells[:texts]), *cells[texts:]]
    return tuple([cell.decode() for cell in column] for column in columns)


def _judge(run: Assembly, texts: tuple[list[str], ...], predictions: np.ndarray) -> None:
    """Compare a finished checkpoint's predictions with transformers', say the outcome, and put it into the summary."""
    task, tolerance = run.data.task, EXACT if run.dtype == "float32" else ROUNDED
    found = judge(Path(run.loaded.source), texts, predictions, run.encoder, task, tolerance)
    if not found:
        print("note: not compared with transformers' answers: it is not installed, or torch is not (the extra bench)")
        return
    run.data.summary["compared with transformers"] = found
    print(
        f"compared with transformers on {found['texts']} texts: the largest difference is "
        f"{found['largest difference']:.2g}; {found['texts of other tokens']} texts have other tokens there"
    )


def require_equal(trained: np.ndarray, served: np.ndarray, tolerance: float) -> None:
    """Refuse a served model that is not the trained one.

    Args:
        trained, served: predictions, float32 [n, K], for the same texts.
        tolerance: largest difference.

    Raises:
        UserError: a larger one.
    """
    difference = float(np.abs(trained - served).max())
    # A comparison with NaN is false: it must not pass.
    if not difference <= tolerance:
        raise UserError(
            f"the model to be served differs from the trained one: a prediction for the same text is {difference:.3g} "
            f"off where {tolerance:.3g} is allowed; nothing was scored or exported. If only bfloat16's rounding is to "
            "blame, set export.dtype to float32."
        )


def remove_left(run_dir: Path) -> None:
    """Remove what exports of a run that were killed have left, which nobody else writes while the run is held."""
    for folder in (run_dir / "saved_model", run_dir / "onnx"):
        for left in folder.glob(f"{HIDDEN}*"):
            shutil.rmtree(left, ignore_errors=True)


def export(run: Assembly, served: Served, task: Task, scores: dict[str, Any]) -> Path:
    """Write the next version to `saved_model/`, verified on held-out texts.

    Args:
        run: what was trained.
        served: what was evaluated.
        task: with what the evaluation has added.
        scores: of each split, for the metadata.
    """
    if task.fault:
        raise UserError(f"{task.fault} Nothing was exported; the scores are written.")
    options, run_dir = run.config.export, Path(str(run.config.run_dir))
    remove_left(run_dir)
    predictions = served.predictions
    tolerance = (options.tolerance or 1e-4) * task.scale
    if options.tolerance is None and run.serving_dtype == "bfloat16":
        exact = run.predictor(serving_copy(served.model, "float32"), run.serving_encoder)
        tolerance = rounding_tolerance(predictions, exact.texts(served.texts), task.scale)
    fit = served.fitting and served.fitting.of_texts
    held_out = HeldOut(served.texts, Expected(predictions, tolerance, fit))
    version = export_verified(
        served.model,
        run.serving_encoder,
        task,
        run_dir / "saved_model",
        held_out,
        run.data.features,
        ExportSettings(
            SignatureOptions(options.signatures, options.top_k, options.explain_steps),
            options.weights,
            {
                "model": dataclasses.asdict(run.identity),
                "read": read_metadata(run.config.data),
                "run": _origin(run, run_dir, task, scores),
                **({"privacy": served.privacy.metadata()} if served.privacy else {}),
            },
            options.warmup_batch_sizes,
            options.recorded_examples,
            served.fitting and served.fitting.typicality,
            # One number for both places: others may publish to the same address.
            highest_at(options.publish) if options.publish else 0,
        ),
    )
    print(f"exported and verified: {version}")
    if options.onnx != "none":
        path = run_dir / "onnx" / f"{version.name}.onnx"
        off = export_onnx(served.model, run.serving_encoder, task, path, held_out, version, options.onnx == "int8")
        print(f"exported as ONNX and verified: {path} (its predictions are {off:.2g} off at most)")
    if options.publish:
        # Last: what is published is taken for whole.
        publish(version, options.publish)
    for i in sorted({0, len(predictions) // 2, len(predictions) - 1}):
        text = " | ".join(" ".join(column[i].split())[:70] for column in served.texts)
        print(f"  {task.shown_prediction(predictions[i])}  {text}")
    return version


def _origin(run: Assembly, run_dir: Path, task: Task, scores: dict[str, Any]) -> dict[str, Any]:
    """Where the model is from, for its metadata."""
    by_group = {split: found["by_group"] for split, found in scores.items() if "by_group" in found}
    return {
        "name": run_dir.resolve().name,
        # A digest tells of each row whether it is among others that are known.
        "data": None if run.config.training.privacy.on else run.data.fingerprint,
        "dtype": run.serving_dtype,
        "scores": {split: task.headline(found) for split, found in scores.items()},
        **({"by_group": by_group} if by_group else {}),
    }
