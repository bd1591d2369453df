"""Scripts run in forks as they do in processes of their own."""

import os
import subprocess
import sys
import time

import pytest

from keras_attn.export.verification import fresh_process

REPORT = """
import decimal, os, sys
print(sys.argv[1:], os.getcwd(), os.environ["TOLD"], sys.path[0], decimal.getcontext().prec, "keras" in sys.modules)
print(sys.stdin.read() + "to stderr", file=sys.stderr)
decimal.getcontext().prec = 3
"""
ENDS = {
    "pass": 0,
    "import sys; sys.exit(7)": 7,
    "raise KeyError('name')": 1,
    "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)": -11,
}


def script(folder, text):
    path = folder / "script.py"
    path.write_text(text)
    return path


def run(command, imported="decimal", timeout=60, **variables):
    return fresh_process.run(command, {**os.environ, **variables}, timeout, imported)


def servers_pid():
    return fresh_process._servers["decimal"].process.pid


def ends(pid):
    """Whether a process ends within ten seconds."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("imported", ["decimal", "no_such_module", None])
def test_each_run_begins_anew(imported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = script(tmp_path, REPORT)
    for told in ("one", "two"):
        status, written = run([path, 5, "--six"], imported, TOLD=told)
        expected = f"['5', '--six'] {tmp_path} {told} {tmp_path} 28 False"
        assert (status, sorted(written.decode().splitlines())) == (0, [expected, "to stderr"])


@pytest.mark.parametrize("imported", ["decimal", None])
@pytest.mark.parametrize("ending", ENDS)
def test_ends(ending, imported, tmp_path):
    status, written = run([script(tmp_path, ending)], imported)
    assert status == ENDS[ending]
    assert ("KeyError: 'name'" in written.decode()) == (status == 1)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_one_process_imports_for_all(tmp_path):
    path = script(tmp_path, "import os; print(os.getppid())")
    parents = {run([path])[1] for _ in range(3)}
    assert parents == {b"%d\n" % servers_pid()}


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_nothing_is_left_after_the_timeout(tmp_path, monkeypatch):
    path = script(tmp_path, "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        run([path], timeout=1)
    assert ends(int((tmp_path / "pid").read_text()))
    assert run([script(tmp_path, "print(1)")]) == (0, b"1\n")


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_a_server_that_has_ended_is_followed_by_another(tmp_path):
    path = script(tmp_path, "print(1)")
    assert run([path]) == (0, b"1\n")
    os.kill(servers_pid(), 9)
    assert run([path]) == (0, b"1\n")


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_the_server_ends_with_the_process_that_started_it(tmp_path):
    path = script(tmp_path, "pass")
    asks = os.fork()
    if not asks:
        run([path])
        (tmp_path / "pid").write_text(str(servers_pid()))
        os._exit(0)
    os.waitpid(asks, 0)
    assert ends(int((tmp_path / "pid").read_text()))
