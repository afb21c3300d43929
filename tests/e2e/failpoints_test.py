"""Processes die at each of the places of common/base/failpoint.h: the newest checkpoint is whole all the time, nothing
half made stays, and the job comes to the bytes that it comes to undisturbed."""

import json
import re

import harness
from harness import ADULT, ROOT

ROWS = 32561
EPOCHS = 16
SETTINGS = ["consistency.mode=BSP", f"train.epochs={EPOCHS}", "train.batch_size=16", "checkpoint.every_s=1",
            "checkpoint.keep=2"]


def failpoints():
    """All that there are: one that is added is tried too, and fails this test if nothing passes it."""
    table = re.search(r"kFailpoints\[\] = \{(.*?)\n\};", (ROOT / "common/base/failpoint.h").read_text(), re.S).group(1)
    return re.findall(r'^    "([\w.]+)",$', table, re.M)


class Failpoints(harness.SheafTest):
    def setUp(self):
        super().setUp()
        self.points = self.folder / "points"
        self.points.mkdir()

    def start_run(self, number):
        self.store = self.folder / f"checkpoints-{number}"
        logs = self.folder / f"logs-{number}"
        options = [word for setting in SETTINGS for word in ("--set", setting)]
        self.process = self.start(
            "run", ADULT, "--checkpoint_dir", self.store, "--store_dir", self.folder / f"store-{number}", "--log_dir",
            logs, "--servers", 2, "--workers", 2, "--report", self.folder / "report.json", "--model",
            self.folder / "killed.model", *options, environment={"SHEAF_FAILPOINTS": str(self.points)})
        address = logs / "scheduler.address"
        harness.wait_until(lambda: address.exists() or self.over(), 30, "the scheduler starts")
        self.address = address.read_text().strip()

    def over(self):
        return self.process.poll() is not None

    def create(self):
        return self.sheaf("checkpoint", "create", "--scheduler", self.address, "--timeout", 5, timeout=60).code == 0

    def leftovers(self):
        return [path.name for path in self.store.iterdir() if path.name.startswith(".")]

    def check_latest(self, name):
        outcome = self.sheaf("checkpoint", "verify", "latest", "--checkpoint_dir", self.store)
        self.assertEqual(outcome.code, 0, f"{name}: {outcome}")

    def die_at(self, name):
        """False: the job was over before."""
        point, others = self.points / name, []
        if name == "folder.dropping":  # nothing is dropped but what somebody's death has ended
            others = [self.points / "server.frozen"]
        for each in [point, *others]:
            each.touch()
        # Old ones go when one is made by time, which is a second after the last that was made, also by hand.
        by_hand = name not in ("folder.trimming", "folder.removing")
        def passed():
            if by_hand and point.exists():
                self.create()  # made or not
            return not point.exists() or self.over()
        harness.wait_until(passed, 60, f"somebody passes {name}")
        died = not point.exists()
        for each in [point, *others]:
            each.unlink(missing_ok=True)
        return died

    def check_goes_on(self, name):
        """False: the job was over meanwhile."""
        harness.wait_until(lambda: self.create() or self.over(), 60, f"a checkpoint is made after {name}")
        if self.over():
            return False
        self.check_latest(name)
        harness.wait_until(lambda: not self.leftovers() or self.over(), 20, f"{name}: nothing stays but checkpoints")
        return True

    def test_latest_is_whole_wherever_somebody_dies_and_the_job_ends_as_it_should(self):
        names = failpoints()
        self.assertEqual(len(names), len(set(names)))
        waiting = names[:: harness.shorter(1, 3)]
        died = []
        for number in range(20):
            if not waiting:
                break
            self.start_run(number)
            harness.wait_until(lambda: self.create() or self.over(), 60, "the first checkpoint is made")
            while waiting and not self.over() and self.die_at(waiting[0]):
                died.append(waiting.pop(0))
                self.check_latest(died[-1])
                if not self.check_goes_on(died[-1]):
                    break
            outcome = self.finish(self.process)
            self.assertEqual(outcome.code, 0, f"{died[-1:]}: {outcome}")
            self.check_latest(died[-1])
            self.assertEqual(json.loads((self.folder / "report.json").read_text())["examples_total"], ROWS * EPOCHS)
            if number == 0:
                quiet = self.folder / "quiet.model"
                self.run_job(ADULT, "--workers", 2, "--model", quiet, "--checkpoint_dir", self.folder / "quiet",
                             settings=SETTINGS)
            self.assertEqual((self.folder / "killed.model").read_bytes(), quiet.read_bytes(), died)
        self.assertEqual(waiting, [], "too few jobs for all of them: make them longer")


if __name__ == "__main__":
    harness.main()
