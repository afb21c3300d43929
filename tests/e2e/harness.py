"""What the end-to-end tests share: running `sheaf`, finding its processes, temporary folders."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("SHEAF_BIN", ROOT / "build" / "release" / "bin")).resolve()
SHEAF = BIN / "sheaf"
ADULT = ROOT / "examples" / "adult.job.textproto"
PROGRAMS = ("sheaf", "sheaf-scheduler", "sheaf-server", "sheaf-worker")


def shorter(full, short):
    """How much of something: all of it takes half an hour (scripts/test.sh --long, or SHEAF_E2E_LONG=1)."""
    return full if os.environ.get("SHEAF_E2E_LONG") else short


def clean_environment():
    """Ours without SHEAF_* variables, which would change every command, and without colours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SHEAF_")}
    kept["NO_COLOR"] = "1"
    return kept


def descendants(pid):
    """All live processes below `pid` as {pid: program}; zombies do not count."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue  # it has just ended
        name, rest = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
        if rest[0] not in "ZX":
            parents[int(entry.name)] = (int(rest[1]), name)
    found, wanted = {}, {pid}
    while wanted:
        children = {child for child, (parent, _) in parents.items() if parent in wanted and child not in found}
        found.update({child: parents[child][1] for child in children})
        wanted = children
    return found


def alive(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return state[state.rindex(")") + 2] not in "ZX"


def wait_until(condition, seconds, what):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


class Outcome:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __str__(self):
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class SheafTest(unittest.TestCase):
    """A temporary folder per test, and a check after each that no process stayed behind."""

    maxDiff = None

    def setUp(self):
        self.assertTrue(SHEAF.exists(), f"{SHEAF} is not built (SHEAF_BIN names the folder)")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sheaf-e2e-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.started = []
        self.addCleanup(self.check_nothing_is_left)

    def check_nothing_is_left(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
        wait_until(lambda: not self.marked_processes(), 10, f"processes left behind: {self.marked_processes()}")

    def marked_processes(self):
        """Live processes of this test: they all have its folder in their environment."""
        mark = f"SHEAF_E2E={self.folder}".encode()
        found = {}
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0") and alive(int(entry.name)):
                    found[int(entry.name)] = (entry / "comm").read_text().strip()
            except OSError:
                continue
        return found

    def start(self, *arguments, program=SHEAF, environment=None, **options):
        ours = {"SHEAF_E2E": str(self.folder), "TMPDIR": str(self.folder)}
        settings = clean_environment() | ours | (environment or {})
        process = subprocess.Popen(
            [str(program), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=settings, cwd=options.pop("cwd", self.folder), **options)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.stdout.close)
        self.started.append(process)
        return process

    def finish(self, process, timeout=240):
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            self.fail(f"{process.args} did not end within {timeout} s\n{Outcome(None, out, err)}")
        return Outcome(process.returncode, out, err)

    def sheaf(self, *arguments, timeout=240, **options):
        return self.finish(self.start(*arguments, **options), timeout)

    def run_ok(self, *arguments, **options):
        outcome = self.sheaf(*arguments, **options)
        self.assertEqual(outcome.code, 0, outcome)
        return outcome

    def run_job(self, job, *arguments, settings=(), timeout=240):
        """`sheaf run`; returns the report."""
        report = self.folder / f"report-{len(self.started)}.json"
        options = [word for setting in settings for word in ("--set", setting)]
        self.run_ok("run", job, "--report", report, *options, *arguments, timeout=timeout)
        return json.loads(report.read_text())

    def expect_failure(self, outcome, code, *texts):
        codes = code if isinstance(code, tuple) else (code,)
        self.assertIn(outcome.code, codes, outcome)
        for text in texts:
            self.assertIn(str(text), outcome.err, outcome)

    def write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def job(self, text, name="job.job.textproto"):
        return self.write(name, text)

    def processes_of(self, process, program):
        return [pid for pid, name in descendants(process.pid).items() if name == program]

    def workers_of(self, process):
        return self.processes_of(process, "sheaf-worker")

    def kill_now_and_then(self, process, program, kills, pause, chance, all_at_once=False, ready=lambda pid: True):
        """SIGKILL to a random process of that program, or to all, until so many times or the run is over; each victim
        has to be `ready` first."""
        killed = 0
        # The first kill waits until there are workers at all.
        wait_until(lambda: self.workers_of(process) or process.poll() is not None, 30, "workers start")
        while process.poll() is None and killed < kills:
            time.sleep(chance.uniform(*pause))
            victims = self.processes_of(process, program)
            struck = 0
            for pid in victims if all_at_once or not victims else [chance.choice(victims)]:
                wait_until(lambda: process.poll() is not None or not alive(pid) or ready(pid), 60,
                           f"{pid} may be killed")
                try:
                    os.kill(pid, signal.SIGKILL)
                    struck += 1
                except ProcessLookupError:
                    pass
            killed += struck > 0
        return killed

    def interrupt(self, process):
        process.send_signal(signal.SIGINT)


def main():
    unittest.main()
