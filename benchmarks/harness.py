"""Compares the speed of implementations on the CPU.

A benchmark file declares cases and implementations, and passes them to `main`:

    benchmark = Benchmark(cases={"small": {"size": 10}, "large": {"size": 1000}}, quick=["small"])

    @benchmark.implementation("ours")
    def ours(case):
        x = np.random.default_rng(0).standard_normal(case["size"])
        return lambda: np.sort(x)

    if __name__ == "__main__":
        sys.exit(main(benchmark))

Each implementation runs in separate processes, with as many threads as there are cores. Every case is warmed up,
compared with the result of the first implementation, and timed in alternating rounds (A B C A B C ...), so that only
one process computes at a time and other load on the machine affects all of them.

`ms` is the median over rounds of a round's median call; the quartiles are over rounds too. `first_ms` is the first
call, which traces and compiles graphs. `peak_mb` is the peak increase of resident memory during a call, in units of
10**6 bytes: the memory of the call besides inputs, weights and compiled code, its result included. It is only available
on Linux. It is measured in a second process, whose allocator returns freed memory, because an allocator that keeps it,
such as TensorFlow's, would hide it.
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
    """Cases, and the implementations to run on them.

    Args:
        cases: Dict from the name of a case to its parameters, which must be picklable.
        quick: Names of the cases for `--quick`. If None, all.
        tolerance: Maximum difference from the first implementation's result, relative to its largest value.
    """

    def __init__(self, cases, *, quick=None, tolerance=1e-4):
        self.cases = dict(cases)
        self.quick = list(self.cases if quick is None else quick)
        self.tolerance = tolerance
        self.implementations = []

    def implementation(self, name, *, needs=None, install=None):
        """Declares the decorated function as an implementation. Ratios refer to the first one declared.

        The function takes a case's parameters and returns the callable to time, without arguments, or a pair of it and
        a view: an untimed function that converts the callable's result for comparison. Arrays and lists of arrays are
        compared; None is not. The function runs in a separate process and must contain its imports.

        Args:
            name: Name in the table. Benchmarks in the same run with the same name share a process.
            needs: Optional name of a required module. If it is missing, the implementation is absent.
            install: The command that installs it. Defaults to `pip install` and `needs`.
        """

        def declare(prepare):
            self.implementations.append(_Implementation(name, prepare, needs, install or f"pip install {needs}"))
            return prepare

        return declare


def main(*benchmarks, argv=None, rounds=None):
    """Runs benchmarks with command-line options, and prints a table.

    Args:
        *benchmarks: `Benchmark`s with different names of cases.
        argv: Optional list of arguments. Defaults to those of the process.
        rounds: Optional number of rounds. Defaults to 9, and 3 for `--quick`.

    Returns:
        Exit status: 0, or 1 if an implementation failed or disagreed. An absent one is not a failure.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="few cases and short rounds, without memory")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cases whose name contains this")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the rows to this file")
    arguments = parser.parse_args(argv)
    default, seconds = (3, 0.05) if arguments.quick else (9, 0.2)
    rounds = rounds or default

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
    # Memory takes a second process, which traces and compiles everything again.
    weighed = [] if arguments.quick else present
    scales = {name: _Worker({"TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1"}) for name in weighed}
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
            peaks[name] = scales[name].ask(_measure_peak_mb, *request) if name in scales else None
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
        # The condition is negated so that NaN disagrees.
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
    """A worker process. If it has died, the next request starts a new one."""

    def __init__(self, environment=()):
        self._environment = dict(environment)
        self._process = None

    def ask(self, function, *args):
        """Calls `function(*args)` in the process. Raises a one-line RuntimeError if it fails there."""
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
        # Startup messages of frameworks only matter if they fail.
        self._log = tempfile.NamedTemporaryFile("r", errors="replace")  # noqa: SIM115
        context = multiprocessing.get_context("spawn")
        self._pipe, end = context.Pipe()
        args = (end, self._log.name, self._environment)
        self._process = context.Process(target=_serve, args=args, daemon=True)
        self._process.start()
        end.close()


# The rest runs in the worker processes.


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
    """Warms up the case for `_time_round`. Returns its arrays and the milliseconds of its first call."""
    global _call
    _call = None
    _call, view, first_ms = _warm_up(prepare, case)
    result = view(_call())
    arrays = result if isinstance(result, list) or result is None else [result]
    return None if arrays is None else [np.asarray(x) for x in arrays], first_ms


def _time_round(seconds):
    # The other processes have evicted the caches.
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

    # Each array has its own mapping, which is freed with it.
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
