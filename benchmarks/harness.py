"""Times implementations of one thing against one another, on the CPU.

A benchmark file declares cases and implementations, and hands them over:

    benchmark = Benchmark(cases={"small": {"size": 10}, "large": {"size": 1000}}, quick=["small"])

    @benchmark.implementation("ours")
    def ours(case):
        x = np.random.default_rng(0).standard_normal(case["size"])
        return lambda: np.sort(x)

    if __name__ == "__main__":
        sys.exit(main(benchmark))

Each implementation has processes of its own, with as many threads as there are cores. Every case is warmed up, checked
against the first implementation's result, and timed in rounds that take turns (A B C A B C ...), so that only one
process computes at a time and a busy moment of the machine hits them all.

`ms` is the median over rounds of a round's median call; the quartiles are over rounds too. `first_ms` is the very first
call, which makes graphs and compiles them. `peak_mb` is by how much resident memory, in units of 10**6 bytes, peaks
during one call above its level right before: what the call holds beside its inputs, weights and compiled code, its
result included. Only Linux tells it. A second process measures it, whose allocator gives freed memory back, since one
that keeps it, as TensorFlow's does, would hide what a call takes.
"""

import argparse
import ctypes
import dataclasses
import gc
import importlib.util
import json
import multiprocessing
import os
import pathlib
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable

import numpy as np

_WARM_UP_CALLS = 2
_M_MMAP_THRESHOLD = -3


@dataclasses.dataclass(frozen=True)
class _Implementation:
    name: str
    prepare: Callable
    needs: str | None
    install: str | None


class Benchmark:
    """Cases, and the implementations that each of them is put to.

    Args:
        cases: maps the name of a case to its parameters, anything that pickles.
        quick: the names of the cases that `--quick` keeps; all where None.
        tolerance: how far a result may be from the first implementation's, as a part of that result's largest number.
    """

    def __init__(self, cases, *, quick=None, tolerance=1e-4):
        self.cases = dict(cases)
        self.quick = list(self.cases if quick is None else quick)
        self.tolerance = tolerance
        self.implementations = []

    def implementation(self, name, *, needs=None, install=None):
        """Declares the decorated function as an implementation; ratios are those of the first one declared.

        The function takes a case's parameters and returns the zero-argument callable to be timed, or a pair of it and
        a view: a function that, untimed, makes of the callable's result what is compared with the other
        implementations. Compared are arrays, or lists of arrays; None is not compared. It runs in its own process, so
        it imports what it needs, and the file that declares it does not.

        Args:
            name: name in the table; benchmarks of one run may share names, and so processes.
            needs: optional name of the module without which the implementation is absent.
            install: the command that installs it; `pip install` and `needs` where None.
        """

        def declare(prepare):
            self.implementations.append(_Implementation(name, prepare, needs, install or f"pip install {needs}"))
            return prepare

        return declare


def main(*benchmarks, argv=None):
    """Runs benchmarks as the command line says, and prints one table.

    Args:
        *benchmarks: `Benchmark`s; names of cases differ between them.
        argv: optional list of arguments; those of the process where None.

    Returns:
        Exit status: 0, or 1 where an implementation failed or disagreed. An absent one is no failure.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="few cases and short rounds")
    parser.add_argument("--only", default="", metavar="TEXT", help="the cases whose name holds this")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the rows here as well")
    arguments = parser.parse_args(argv)
    rounds, seconds = (3, 0.05) if arguments.quick else (9, 0.2)

    threads = str(_num_cores())
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ[variable] = threads
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{threads} threads{load}; median ms and quartiles of {rounds} rounds; ratio: first of the case to this one")

    present, absent = {}, {}
    for benchmark in benchmarks:
        for implementation in benchmark.implementations:
            needs = implementation.needs
            is_absent = needs and importlib.util.find_spec(needs) is None
            (absent if is_absent else present)[implementation.name] = implementation
    for implementation in absent.values():
        print(f"{implementation.name} is absent: {implementation.install}")

    table = _Table([case for benchmark in benchmarks for case in benchmark.cases], present)
    clocks = {name: _Worker() for name in present}
    scales = {name: _Worker({"TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1"}) for name in present}
    try:
        for benchmark in benchmarks:
            for case in benchmark.quick if arguments.quick else benchmark.cases:
                if arguments.only in case:
                    _run_case(case, benchmark, clocks, scales, table, rounds, seconds)
    finally:
        for worker in (*clocks.values(), *scales.values()):
            worker.stop()
    if arguments.json:
        arguments.json.write_text(json.dumps(table.rows, indent=1) + "\n")
    return int(table.failed)


def _run_case(case, benchmark, clocks, scales, table, rounds, seconds):
    peaks, firsts, reference = {}, {}, None
    for implementation in benchmark.implementations:
        name, request = implementation.name, (implementation.prepare, benchmark.cases[case])
        if name not in clocks:
            continue
        try:
            arrays, firsts[name] = clocks[name].ask(_prepare, *request)
            reference = reference or (name, arrays)
            _check_agreement(arrays, *reference, benchmark.tolerance)
            peaks[name] = scales[name].ask(_measure_peak_mb, *request)
        except RuntimeError as error:
            table.fail(case, name, error)

    times = {name: [] for name in peaks}
    for _ in range(rounds):
        for name in list(times):
            try:
                times[name].append(clocks[name].ask(_time_round, seconds))
            except RuntimeError as error:
                del times[name]
                table.fail(case, name, error)
    for name, ms in times.items():
        table.add(case, name, ms, firsts[name], peaks[name])


def _check_agreement(arrays, reference_name, reference, tolerance):
    if arrays is None or reference is None:
        return
    shapes, expected_shapes = [a.shape for a in arrays], [a.shape for a in reference]
    if shapes != expected_shapes:
        raise RuntimeError(f"disagrees with {reference_name}: shapes {shapes}, not {expected_shapes}")
    for actual, expected in zip(arrays, reference, strict=True):
        error, size = np.max(np.abs(actual - expected), initial=0), np.max(np.abs(expected), initial=0)
        # Written so that a NaN disagrees.
        if not error <= tolerance * size:
            raise RuntimeError(f"disagrees with {reference_name}: off by {error:.2g} where numbers go up to {size:.2g}")


class _Table:
    def __init__(self, cases, names):
        self.rows, self.failed = [], False
        self._widths = [max(map(len, column)) for column in (["case", *cases], ["implementation", *names])]
        figures = f"{'ms':>9} {'quartiles':>17} {'first ms':>9} {'peak MB':>9} {'ratio':>6}"
        self._print("case", "implementation", figures)

    def add(self, case, name, ms, first_call, peak):
        first, median, third = statistics.quantiles(ms, n=4, method="inclusive")
        times = {"ms": median, "ms_quartiles": [first, third], "first_ms": first_call}
        self.rows.append({"case": case, "implementation": name, **times, "peak_mb": peak})
        ours = next(row["ms"] for row in self.rows if row["case"] == case)
        peak = "" if peak is None else f"{peak:.1f}"
        spread = f"{first:.2f}-{third:.2f}"
        self._print(case, name, f"{median:9.2f} {spread:>17} {first_call:9.1f} {peak:>9} {ours / median:6.2f}")

    def fail(self, case, name, error):
        self.failed = True
        self._print(case, name, f"failed: {error}")

    def _print(self, case, name, rest):
        print(f"{case:<{self._widths[0]}}  {name:<{self._widths[1]}}  {rest}", flush=True)


class _Worker:
    """A process that computes when asked to; one that died is replaced at the next request."""

    def __init__(self, environment=()):
        self._environment = dict(environment)
        self._process = None

    def ask(self, function, *args):
        """`function(*args)` in the process; a RuntimeError in one line where it fails there."""
        if self._process is None:
            self._start()
        try:
            self._pipe.send((function, *args))
            is_answer, answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            is_answer, answer = False, f"the process ended with status {self._process.exitcode}"
        if not is_answer:
            sys.stderr.write(self._log.read())
        if not self._process.is_alive():
            self.stop()
        if not is_answer:
            raise RuntimeError(answer)
        return answer

    def stop(self):
        if self._process is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()
            self._process = None
            self._log.close()

    def _start(self):
        # What frameworks chat about at their start matters only where they fail.
        self._log = tempfile.NamedTemporaryFile("r", errors="replace")  # noqa: SIM115
        context = multiprocessing.get_context("spawn")
        self._pipe, end = context.Pipe()
        args = (end, self._log.name, self._environment)
        self._process = context.Process(target=_serve, args=args, daemon=True)
        self._process.start()
        end.close()


# The rest runs in workers.


def _serve(pipe, log, environment):
    os.environ.update(environment)
    os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND), sys.stderr.fileno())
    while True:
        try:
            function, *args = pipe.recv()
            pipe.send((True, function(*args)))
        except EOFError:
            return
        except Exception as error:
            traceback.print_exc()
            pipe.send((False, f"{type(error).__name__}: {error}".splitlines()[0]))


def _prepare(prepare, case):
    """Warms the case up for `_time_round`, and returns its arrays and the milliseconds of its first call."""
    global _call
    _call = None
    _call, view, first_ms = _warm_up(prepare, case)
    result = view(_call())
    arrays = result if isinstance(result, list) or result is None else [result]
    return None if arrays is None else [np.asarray(x) for x in arrays], first_ms


def _time_round(seconds):
    # The other processes had the caches meanwhile.
    _call()
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        _call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def _measure_peak_mb(prepare, case):
    status = pathlib.Path("/proc/self/status")

    def peak_kb():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))

    # Each array its own mapping, which goes when the array does.
    getattr(ctypes.CDLL(None), "mallopt", lambda *_: None)(_M_MMAP_THRESHOLD, 2**16)
    call, _, _ = _warm_up(prepare, case)
    gc.collect()
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        before = peak_kb()
    except OSError:
        return None
    call()
    return (peak_kb() - before) * 1024 / 1e6


def _warm_up(prepare, case):
    prepared = prepare(case)
    call, view = prepared if isinstance(prepared, tuple) else (prepared, lambda result: result)
    start = time.perf_counter()
    call()
    first_ms = (time.perf_counter() - start) * 1e3
    for _ in range(_WARM_UP_CALLS - 1):
        call()
    return call, view, first_ms


def _num_cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
