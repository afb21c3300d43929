#!/usr/bin/env python3
"""`docker-compose up` trains the example job on two servers and two workers, and comes to what `sheaf run` comes to.

Needs docker, docker-compose and, where no engine answers, root (it then starts a dockerd of its own, in network and
mount namespaces of its own, and stops it again). Where debian:12-slim cannot be pulled, a base image is made with
debootstrap and kept under build/. What is missing is said, and the test skipped (exit status 77).

  docker_compose_test.py [BIN_DIR]      where sheaf, sheaf-server, ... lie (default: $SHEAF_BIN, build/release/bin)
"""
import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "docker-test"
EXECUTABLES = ["sheaf", "sheaf-scheduler", "sheaf-server", "sheaf-worker"]
JOB = "examples/adult.job.textproto"
TOLERANCE = 0.002  # SSP: the order of gradients differs from run to run


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def run(*words, timeout=120, **options):
    """Runs a command; its output is shown only if it fails."""
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL, "text": True}
    return subprocess.run([str(word) for word in words], timeout=timeout, **(quiet | options))


def must(*words, **options):
    done = run(*words, **options)
    if done.returncode != 0:
        sys.exit(f"FAILED ({done.returncode}): {' '.join(map(str, words))}\n{done.stdout}")
    return done.stdout


# ---- the engine -----------------------------------------------------------------------------------------------------


def compose_command():
    for words in (["docker-compose"], ["docker", "compose"]):
        if shutil.which(words[0]) and run(*words, "version").returncode == 0:
            return words
    return None


def engine_answers():
    with contextlib.suppress(subprocess.TimeoutExpired):
        return run("docker", "info", "--format", "{{.ServerVersion}}", timeout=20).returncode == 0
    return False


def die_with_parent():
    """Runs in the child: a test that is killed for its time leaves no engine behind."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class OwnEngine:
    """A dockerd in namespaces of its own: its bridges, firewall rules and mounts are gone with it."""

    def __init__(self, folder):
        self.folder, self.process = pathlib.Path(folder), None

    def start(self, storage_driver):
        socket = self.folder / "docker.sock"
        words = ["dockerd", f"--host=unix://{socket}", f"--data-root={self.folder}/data",
                 f"--exec-root={self.folder}/exec", f"--pidfile={self.folder}/docker.pid",
                 f"--storage-driver={storage_driver}"]
        # dockerd is the first process of its namespace: when it ends, whatever it started ends.
        namespaces = ["unshare", "--net", "--mount", "--pid", "--mount-proc", "--kill-child", "--fork",
                      "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        self.log = open(self.folder / f"dockerd-{storage_driver}.log", "wb")
        self.process = subprocess.Popen(namespaces + words, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        preexec_fn=die_with_parent)
        os.environ["DOCKER_HOST"] = f"unix://{socket}"
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline and self.process.poll() is None:
            if socket.exists() and engine_answers():
                return True
            time.sleep(0.2)
        self.stop()
        return False

    def stop(self):
        if self.process is None:
            return
        with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
            children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            os.kill(int(children[0]), signal.SIGTERM)
            self.process.wait(timeout=20)
        if self.process.poll() is None:
            self.process.kill()  # --kill-child: dockerd goes with it
            self.process.wait()
        self.process = None
        self.log.close()

    def last_words(self):
        logs = sorted(self.folder.glob("dockerd-*.log"))
        return logs[-1].read_text(errors="replace").strip().splitlines()[-1:] if logs else []


@contextlib.contextmanager
def engine(folder):
    """Yields whether images can be pulled from a registry."""
    if engine_answers():
        yield True
        return
    if os.geteuid() != 0:
        skip("no container engine answers, and starting one takes root")
    if not shutil.which("dockerd"):
        skip("no container engine answers and there is no dockerd (scripts/setup.sh --with docker)")
    own = OwnEngine(folder)
    try:
        if not own.start("overlay2") and not own.start("vfs"):
            skip(f"dockerd does not start here: {own.last_words()}")
        yield False
    finally:
        own.stop()


# ---- images ---------------------------------------------------------------------------------------------------------


def apt_mirror():
    """The archive this machine's apt is set up for, so that debootstrap goes where apt can go."""
    listed = run("apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages")
    for line in listed.stdout.splitlines() if listed.returncode == 0 else []:
        release, _, uri = line.partition(" ")
        if release == "bookworm":
            return uri
    return "http://deb.debian.org/debian"


def base_tarball():
    packages = must("bash", ROOT / "scripts/setup.sh", "--runtime", "--list").split()
    tarball = CACHE / f"bookworm-{hashlib.sha256(' '.join(packages).encode()).hexdigest()[:12]}.tar"
    if tarball.exists():
        return tarball
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        skip("debian:12-slim cannot be pulled, and making one takes root and debootstrap (setup.sh --with docker)")
    CACHE.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    proxy = run("apt-config", "dump", "--format", "%v", "Acquire::http::Proxy").stdout.strip()
    if proxy:
        environment.setdefault("http_proxy", proxy)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        made = run("debootstrap", "--variant=minbase", f"--include={','.join(packages)}", "bookworm", f"{folder}/root",
                   apt_mirror(), timeout=400, env=environment)
        if made.returncode != 0:
            skip(f"debian:12-slim cannot be pulled and debootstrap failed: {made.stdout.strip().splitlines()[-1:]}")
        must("tar", "-C", f"{folder}/root", "--exclude=./var/cache/apt/archives/*.deb", "-cf", f"{folder}/base.tar",
             ".", timeout=300)
        os.replace(f"{folder}/base.tar", tarball)
    return tarball


def base_image(registry):
    if registry:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if run("docker", "pull", "debian:12-slim", timeout=180).returncode == 0:
                return "debian:12-slim"
    must("docker", "import", base_tarball(), "sheaf-test-base", timeout=300)
    return "sheaf-test-base"


def stage(folder, binaries):
    """A copy of what the image is made of, with the executables where the Dockerfile looks for prebuilt ones."""
    for name in ("docker-compose.yml", ".dockerignore", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, folder)
    for name in ("deploy", "examples", "scripts"):
        shutil.copytree(ROOT / name, folder / name)
    target = folder / "build/release/bin"
    target.mkdir(parents=True)
    for name in EXECUTABLES:
        shutil.copy(binaries / name, target)
        if shutil.which("strip"):
            run("strip", "--strip-debug", target / name)


# ---- the test -------------------------------------------------------------------------------------------------------


def local_result(binaries, scratch):
    """What the same job comes to without containers."""
    report = pathlib.Path(scratch) / "report.json"
    must(binaries / "sheaf", "run", ROOT / JOB, "--servers", 2, "--workers", 2, "--report", report, timeout=240)
    return json.loads(report.read_text())["test"]


def check(up, binaries, scratch):
    if up.returncode != 0:
        sys.exit(f"FAILED: docker-compose up ended with {up.returncode}; the job's status should be 0")
    found = re.search(r"test\s+accuracy ([\d.]+)\s+AUC ([\d.]+)\s+logloss ([\d.]+)", up.stdout)
    if found is None:
        sys.exit("FAILED: the job told no test result")
    expected = local_result(binaries, scratch)
    for name, text in zip(("accuracy", "auc", "logloss"), found.groups()):
        print(f"{name}: {text} in containers, {expected[name]:.4f} without")
        if abs(float(text) - expected[name]) > TOLERANCE:
            sys.exit(f"FAILED: {name} differs by more than {TOLERANCE}")


def main():
    named = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("SHEAF_BIN")
    binaries = pathlib.Path(named or ROOT / "build/release/bin").resolve()
    missing = [name for name in EXECUTABLES if not (binaries / name).is_file()]
    if missing:
        sys.exit(f"FAILED: {binaries} has no {', '.join(missing)}: build first, or name the folder in SHEAF_BIN")
    if not shutil.which("docker"):
        skip("docker is not installed (scripts/setup.sh --with docker)")
    compose = compose_command()
    if compose is None:
        skip("docker-compose is not installed (scripts/setup.sh --with docker)")
    with tempfile.TemporaryDirectory(prefix="sheaf-docker-") as scratch, engine(scratch) as registry:
        tree = pathlib.Path(scratch) / "sheaf"
        tree.mkdir()
        stage(tree, binaries)
        image = f"sheaf-test:{os.getpid()}"
        os.environ.update(BASE_IMAGE=base_image(registry), BINARIES="prebuilt", SHEAF_IMAGE=image, DOCKER_BUILDKIT="0",
                          COMPOSE_PROJECT_NAME=f"sheaf-test-{os.getpid()}")
        try:
            must(*compose, "build", cwd=tree, timeout=300)
            up = run(*compose, "up", "--no-color", "--abort-on-container-exit", cwd=tree, timeout=240)
            print(up.stdout)
            check(up, binaries, scratch)
        finally:
            run(*compose, "down", "--volumes", "--timeout", "2", cwd=tree)
            run("docker", "image", "rm", image)


if __name__ == "__main__":
    main()
