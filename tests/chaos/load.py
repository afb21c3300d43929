"""The work that a cluster does while it is broken: training jobs one after the other, and clients that push integers to
their tables. Each job is a round: when it has finished, its clients come to an end and its table is checked.
"""

import json
import signal
import subprocess

import harness
from cluster import CLIENT, now

ROWS = 32561
SHARE_OF_ROUND = ("SSP", "ASP", "BSP")
RESTART_AFTER = 0.2


class Client:
    """A process that pushes; killed, it goes on where its ledger says."""

    def __init__(self, load, number):
        self.load, self.number = load, number
        self.process = None
        self.start_at = 0.0
        self.killed = False
        self.over = False

    def start(self):
        load = self.load
        self.killed = False
        self.process = load.cluster.spawn(
            "client", f"client-{self.number}", CLIENT, "push", f"--scheduler={load.cluster.scheduler_address}",
            f"--job={load.job}", f"--seed={load.seed}", f"--client={self.number}",
            f"--ledger={load.ledger()}.{self.number}", f"--stalls={load.stalls}",
            f"--most={1 if load.state == 'draining' else 0}", stdout=None)


class Load:
    def __init__(self, cluster, clients, seed, epochs, chance):
        self.cluster, self.seed, self.epochs, self.chance = cluster, seed, epochs, chance
        self.clients = [Client(self, number) for number in range(clients)]
        self.stalls = cluster.folder / "stalls"
        self.round = 0
        self.state = "between"
        self.job = None
        self.more = True               # begin another round when this one is over
        self.submitted = self.checker = self.check_file = None
        self.pushes = self.lost = self.repeated = self.examples = self.jobs = 0
        self.pushes_before = 0
        self.wrong = []                # what must not be, in words

    def ledger(self):
        return self.cluster.folder / f"ledger-{self.round}"

    def acknowledged(self):
        """Of all rounds, for the line of progress."""
        total = 0
        for client in self.clients:
            try:
                total += int.from_bytes((self.ledger().with_name(f"{self.ledger().name}.{client.number}")).read_bytes()
                                        [16:24], "little")
            except OSError:
                pass                   # it has not begun
        return self.pushes_before + total

    @property
    def over(self):
        return self.state == "between" and not self.more

    def look(self):
        getattr(self, "_" + self.state)()

    # ---- a round: between -> submitting -> pushing -> draining -> checking -> between ----

    def _between(self):
        if not self.more:
            return
        self.round += 1
        self.job = None
        self.mode = self.chance.choice(SHARE_OF_ROUND)
        self.report = self.cluster.folder / f"report-{self.round}.json"
        settings = ["optimizer.kind=SGD", "optimizer.learning_rate=1", "optimizer.learning_rate_decay=1",
                    f"consistency.mode={self.mode}", f"train.epochs={self.epochs}", "train.workers=2"]
        words = [word for setting in settings for word in ("--set", setting)]
        self.submitted = self.cluster.spawn(
            "client", f"submit-{self.round}", harness.SHEAF, "submit", harness.ADULT, "--report", self.report,
            "--scheduler", self.cluster.scheduler_address, "--timeout", "120", *words,
            stdout=subprocess.DEVNULL)
        self.state = "submitting"

    def _submitting(self):
        if self._job_ended():
            return
        for line in (self.cluster.logs / f"submit-{self.round}.log").read_text().splitlines():
            if line.startswith("job "):
                self.job = int(line.split()[1])
        if self.job is not None:
            for client in self.clients:
                client.over = False
                client.start()
            self.state = "pushing"

    def _pushing(self):
        self._look_after_clients()
        if self._job_ended():
            for client in self.clients:
                if client.process:
                    client.process.terminate()       # which ends it when its push is acknowledged
            self.state = "draining"

    def _draining(self):
        # One that was killed has still a push to bring home.
        self._look_after_clients()
        if all(client.over for client in self.clients):
            self.check_file = open(self.cluster.folder / f"check-{self.round}.json", "w+")
            self.checker = self.cluster.spawn(
                "client", "check", CLIENT, "check", f"--scheduler={self.cluster.scheduler_address}",
                f"--job={self.job}", f"--seed={self.seed}", f"--ledger={self.ledger()}",
                f"--clients={len(self.clients)}", stdout=self.check_file)
            self.state = "checking"

    def _checking(self):
        code = self.checker.poll()
        if code is None:
            return
        self.check_file.seek(0)
        said = self.check_file.read()
        self.check_file.close()
        if said:
            outcome = json.loads(said)
            self.pushes += outcome["pushes"]
            self.lost += outcome["lost"]
            self.repeated += outcome["repeated"]
        if code != 0:
            self.wrong.append(f"round {self.round} ({self.mode}): the check ended with status {code}: "
                              f"{self.cluster.last_line('check')}")
        self.pushes_before = self.acknowledged()
        self.state = "between"

    def _job_ended(self):
        code = self.submitted.poll()
        if code is None:
            return False
        self.jobs += 1
        if code != 0:
            self.wrong.append(f"round {self.round} ({self.mode}): the job ended with status {code}: "
                              f"{self.cluster.last_line(f'submit-{self.round}')}")
        else:
            examples = json.loads(self.report.read_text())["examples_total"]
            self.examples += examples
            if examples != ROWS * self.epochs:
                self.wrong.append(f"round {self.round} ({self.mode}): examples_total is {examples} and must be "
                                  f"{ROWS * self.epochs}")
        if self.state == "submitting":
            self.state = "between"     # it never came to a job
            self.more = False
        return True

    def _look_after_clients(self):
        for client in self.clients:
            if client.over:
                continue
            if client.process is None:
                if now() >= client.start_at:
                    client.start()
                continue
            code = client.process.poll()
            if code is None:
                continue
            client.process = None
            client.start_at = now() + RESTART_AFTER
            # Told to stop before it could hear of it, it ends as if killed.
            if client.killed or (code == -signal.SIGTERM and self.state == "draining"):
                continue
            client.over = True
            if code != 0 or self.state == "pushing":
                self.wrong.append(f"round {self.round}: client {client.number} ended with status {code}: "
                                  f"{self.cluster.last_line(f'client-{client.number}')}")

    def kill_client(self, chance):
        running = [client for client in self.clients if client.process and not client.killed]
        if self.state != "pushing" or not running:
            return None
        client = chance.choice(running)
        client.killed = True
        client.process.kill()
        return f"client-{client.number}"

    def close(self):
        for process in [self.submitted, self.checker, *(client.process for client in self.clients)]:
            if process and process.poll() is None:
                process.kill()
                process.wait()
