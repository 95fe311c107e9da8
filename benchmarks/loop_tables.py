"""The tables and the curves of the simulated clinic, from the records that `benchmarks/loop.py` has written.

    python benchmarks/loop_tables.py docs/benchmarks/loop/20_minutes.json --strategies random,entropy,review
    python benchmarks/loop_tables.py docs/benchmarks/loop/rare.json --strategies random,review --page data/curves

By seed first, then all seeds of a strategy together; `--page` writes the second part as `rounds.html` too. Several
files are read as one, so that seeds may have been run on several machines.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from harness.clinic import seed_table, table, write_page


def main() -> None:
    """Parse, read, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path, nargs="+", metavar="FILE", help="loop.json of a run of loop.py")
    parser.add_argument("--strategies", help="those of the second part; all by default")
    parser.add_argument("--seeds", help="all by default")
    parser.add_argument("--rounds", type=int, help="rounds that count; all by default")
    parser.add_argument("--page", type=Path, metavar="FOLDER", help="folder of rounds.html and rounds.csv")
    given = parser.parse_args()
    if missing := [path for path in given.records if not path.is_file()]:
        parser.error(f"there is no file {missing[0]}; name a loop.json")
    records = [record for path in given.records for record in json.loads(path.read_text(encoding="utf-8"))["records"]]
    if given.seeds is not None:
        records = [record for record in records if str(record["seed"]) in given.seeds.split(",")]
    if given.rounds is not None:
        records = [record for record in records if record["round"] <= given.rounds]
    names = None if given.strategies is None else {"start", *given.strategies.split(",")}
    chosen = [record for record in records if names is None or record["strategy"] in names]
    if not chosen:
        parser.error("there is no record of these seeds, rounds and strategies")
    sys.stdout.write("\n".join([*seed_table(records), "", *table(chosen)]) + "\n")
    if given.page is not None:
        seeds = sorted({int(record["seed"]) for record in chosen})
        write_page(chosen, given.page, details={"Seeds": ", ".join(map(str, seeds))})


if __name__ == "__main__":
    main()
