"""Columns beside the text: every way of model.fusion, the text alone and gradient boosting, on one table.

python benchmarks/columns.py --films movies.json

The table is the films of the npm package vega-datasets (data/movies.json): their genre from the title and from rating,
distributor, source, director, budget, votes and date. Each way is a run of its own with the seeds 0, 1, ...; all have
the same rows in the same splits. Gradient boosting (scikit-learn) and TF-IDF are those that a run scores beside itself.
"""

import argparse
import csv
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
NUMBERS = ["US Gross", "Worldwide Gross", "Production Budget", "Running Time min", "Rotten Tomatoes Rating",
           "IMDB Rating", "IMDB Votes"]  # fmt: skip
CATEGORIES = ["MPAA Rating", "Distributor", "Source", "Director"]
GENRES = ("Drama", "Comedy", "Action", "Adventure", "Thriller/Suspense", "Horror", "Romantic Comedy")
WAYS = ("text alone", "text", "concat", "gated", "hybrid", "auto")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=Path, required=True, help="data/movies.json of vega-datasets")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--folder", type=Path, help="for the runs; those that are finished there are not run again")
    parser.add_argument("settings", nargs="*", help="of pipeline.run, behind --")
    options = parser.parse_args()
    found: dict[str, list[dict]] = {way: [] for way in options.ways}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows = write_films(options.films, folder / "films.csv")
        print(f"{rows} films")
        for seed in range(options.seeds):
            for way in options.ways:
                found[way].append(run(folder, way, seed, options.settings))
                print(way, seed, json.dumps(found[way][-1]), flush=True)
    print("\n| | macro F1 | accuracy | CPU s |\n|---|---|---|---|")
    for way, results in found.items():
        print(f"| {way} | {shown(results, 'macro_f1')} | {shown(results, 'accuracy')} | {shown(results, 'cpu', 0)} |")
    for name, results in boosted(found).items():
        print(f"| {name} | {shown(results, 'macro_f1')} | {shown(results, 'accuracy')} | |")


def write_films(source: Path, target: Path) -> int:
    """A csv of the films of GENRES; returns how many there are."""
    count = 0
    with open(target, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "date", *NUMBERS, *CATEGORIES])
        for film in json.loads(source.read_text()):
            if film["Major Genre"] not in GENRES or not film["Title"]:
                continue
            try:
                date = datetime.strptime(film["Release Date"], "%b %d %Y").date().isoformat()
            except ValueError:
                date = ""
            values = ["" if film[name] is None else film[name] for name in (*NUMBERS, *CATEGORIES)]
            writer.writerow([film["Title"], film["Major Genre"], date, *values])
            count += 1
    return count


def run(folder: Path, way: str, seed: int, settings: list[str]) -> dict:
    """Test scores, processor time, and the baselines' scores."""
    run_dir = folder / f"{way}-{seed}".replace(" ", "-")
    kept = run_dir / "result.json"
    if kept.exists():
        return json.loads(kept.read_text())
    columns = [
        "--data.numeric_columns", json.dumps(NUMBERS), "--data.categorical_columns", json.dumps(CATEGORIES),
        "--data.date_columns", '["date"]', "--model.fusion", way,
    ]  # fmt: skip
    command = [
        sys.executable, "-m", "pipeline.run", "--config", "own_csv", "--data.train", str(folder / "films.csv"),
        "--data.test_fraction", "0.2", "--data.split_seed", str(seed), "--training.seed", str(seed),
        "--run_dir", str(run_dir), "--export.enabled", "false", "--text.sequence_length", "64",
        *([] if way == "text alone" else columns), *settings,
    ]  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    metrics = json.loads((run_dir / "metrics.json").read_text())
    baselines = [metrics["baseline"], *metrics.get("boosted_baselines", [])]
    result = {
        "macro_f1": metrics["test"]["macro_f1"],
        "accuracy": metrics["test"]["accuracy"],
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "baselines": {one["name"]: one["scores"]["test"] for one in baselines},
    }
    kept.write_text(json.dumps(result))
    return result


def boosted(found: dict[str, list[dict]]) -> dict[str, list[dict]]:
    """The baselines' scores, by seed; a run with columns has them all."""
    most = max(found.values(), key=lambda results: len(results[0]["baselines"]))
    return {name: [one["baselines"][name] for one in most] for name in most[0]["baselines"]}


def shown(results: list[dict], key: str, digits: int = 3) -> str:
    """Mean and standard deviation."""
    values = [result[key] for result in results]
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


if __name__ == "__main__":
    main()
