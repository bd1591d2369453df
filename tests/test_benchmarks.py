import itertools
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

HEAD = """
import os, sys, time
import numpy as np
from benchmarks.harness import Benchmark, main

cases = {"small": {"size": 10}, "large": {"size": 4_000_000}, "slow": {"size": 10**12}}
benchmark = Benchmark(cases, quick=["small", "large"])

@benchmark.implementation("ours")
def ours(case):
    return lambda: np.ones(case["size"])
"""

PEER = """
@benchmark.implementation("peer")
def peer(case):
    x = np.ones((case["size"], 1))

    def call():
        time.sleep(0.01)
        return x
    return call, lambda result: result[:, 0]
"""

TAIL = """
if __name__ == "__main__":
    sys.exit(main(benchmark, rounds=3))
"""


@pytest.fixture
def run(tmp_path):
    def run(*implementations, arguments=("--quick",)):
        """Exit status, rows by case and implementation, stdout and stderr of a benchmark file."""
        script, rows = tmp_path / "bench.py", tmp_path / "rows.json"
        script.write_text("".join((HEAD, *implementations, TAIL)))
        done = subprocess.run(
            [sys.executable, script, "--json", rows, *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        rows = json.loads(rows.read_text())
        return done.returncode, {(r["case"], r["implementation"]): r for r in rows}, done.stdout, done.stderr

    return run


def test_rows_and_table(run):
    status, rows, table, _ = run(PEER)
    assert status == 0
    assert set(rows) == set(itertools.product(("small", "large"), ("ours", "peer")))
    assert 10 < rows["small", "peer"]["ms"] < 100
    first, third = rows["small", "peer"]["ms_quartiles"]
    assert first <= rows["small", "peer"]["ms"] <= third
    line = next(line.split() for line in table.splitlines() if line.startswith("small  peer"))
    assert line[2] == f"{rows['small', 'peer']['ms']:.2f}"
    assert float(line[-1]) == pytest.approx(rows["small", "ours"]["ms"] / rows["small", "peer"]["ms"], abs=0.01)
    assert {row["peak_mb"] for row in rows.values()} == {None}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not report it")
def test_memory_is_that_of_a_call(run):
    status, rows, _, _ = run(PEER, arguments=("--only", "large"))
    assert status == 0
    assert rows["large", "ours"]["peak_mb"] == pytest.approx(32, abs=2)
    assert rows["large", "peer"]["peak_mb"] == pytest.approx(0, abs=2)


def test_cases_can_be_chosen(run):
    _, rows, _, _ = run(arguments=("--only", "mal"))
    assert set(rows) == {("small", "ours")}


def test_rounds_take_turns_between_processes(run, tmp_path):
    logged = """
@benchmark.implementation("{0}")
def {0}(case):
    def call():
        with open("calls", "a") as log:
            print("{0}", os.getpid(), file=log)
    return call
"""
    run(logged.format("a"), logged.format("b"))
    calls = [tuple(line.split()) for line in (tmp_path / "calls").read_text().splitlines()]
    turns = [call for call, _ in itertools.groupby(calls)][-6:]
    assert [name for name, _ in turns] == ["a", "b"] * 3
    assert len(set(turns)) == 2


def test_peers_that_are_absent_fail_die_or_disagree(run):
    status, rows, table, errors = run(
        """
@benchmark.implementation("missing", needs="no_such_package")
def missing(case):
    import no_such_package

@benchmark.implementation("failing")
def failing(case):
    raise ValueError("out of luck")

@benchmark.implementation("dying")
def dying(case):
    return lambda: os._exit(7)

@benchmark.implementation("wrong")
def wrong(case):
    return lambda: np.ones(case["size"]) + 0.01

@benchmark.implementation("nan")
def nan(case):
    return lambda: np.ones(case["size"]) * np.nan

@benchmark.implementation("misshapen")
def misshapen(case):
    return lambda: np.ones((case["size"], 1))
""",
        PEER,
    )
    assert status == 1
    assert {name for _, name in rows} == {"ours", "peer"}
    assert "missing is absent: pip install no_such_package" in table
    assert "ValueError: out of luck" in table
    assert "Traceback" in errors
    assert "process ended with status 7" in table
    assert table.count("disagrees with ours") == 2 * 3


def test_an_absent_peer_is_no_failure(run):
    status, rows, table, _ = run(
        """
@benchmark.implementation("missing", needs="no_such_package", install="make missing")
def missing(case):
    import no_such_package
"""
    )
    assert status == 0
    assert {name for _, name in rows} == {"ours"}
    assert "missing is absent: make missing" in table
