"""Checkpoints of real processes: made, verified, damaged, restored onto other servers, under kills and full disks."""

import json
import os
import pathlib
import random
import resource
import signal
import time

import harness
from harness import ADULT, BIN

ROWS = 32561
BSP = ["consistency.mode=BSP", "train.epochs=12", "train.batch_size=16"]


class Checkpoints(harness.SheafTest):
    def setUp(self):
        super().setUp()
        self.store = self.folder / "checkpoints"

    def options(self, settings):
        return [word for setting in settings for word in ("--set", setting)]

    def start_run(self, *arguments, settings=(), environment=None):
        logs = self.folder / f"logs-{len(self.started)}"
        process = self.start("run", ADULT, "--checkpoint_dir", self.store, "--log_dir", logs, *self.options(settings),
                             *arguments, environment=environment)
        address = logs / "scheduler.address"
        harness.wait_until(lambda: address.exists() or process.poll() is not None, 30, "the scheduler starts")
        return process, f"tcp://{address.read_text().strip().removeprefix('tcp://')}"

    def create(self, address, *arguments):
        return self.sheaf("checkpoint", "create", *arguments, "--scheduler", address, timeout=60)

    def create_when_running(self, process, address, *arguments):
        """A job that has not begun cannot be saved: tried until it can."""
        def made():
            outcome = self.create(address, *arguments)
            if outcome.code == 0 or process.poll() is not None:
                return outcome
            self.assertIn("no job is running", outcome.err, outcome)
            return None
        outcome = harness.wait_until(made, 60, "a checkpoint is made")
        self.assertEqual(outcome.code, 0, outcome)
        return outcome

    def kill_run(self, process):
        """The run and, with it, all its processes."""
        process.kill()
        process.wait()
        harness.wait_until(lambda: not self.marked_processes(), 20, "all processes of the run end")

    def ls(self):
        outcome = self.run_ok("checkpoint", "ls", "--checkpoint_dir", self.store, "-o", "json")
        return json.loads(outcome.out)

    def verify(self, name="latest"):
        return self.sheaf("checkpoint", "verify", name, "--checkpoint_dir", self.store)

    def quiet_model(self, settings):
        model = self.folder / "quiet.model"
        self.run_job(ADULT, "--model", model, "--checkpoint_dir", self.folder / "quiet", settings=settings)
        return model.read_bytes()

    def restore_run(self, *arguments, timeout=240):
        return self.sheaf("run", ADULT, "--checkpoint_dir", self.store, "--restore", "latest", *arguments,
                          timeout=timeout)

    def test_is_made_listed_verified_and_named(self):
        process, address = self.start_run(settings=["train.epochs=200", "train.batch_size=32"])
        self.create_when_running(process, address, "first")
        self.assertIn("second", self.create(address, "second").out)
        self.expect_failure(self.create(address, "second"), 1, "already")
        listed = self.ls()
        self.assertEqual([each["name"] for each in listed], ["first", "second"])
        self.assertEqual({each["state"] for each in listed}, {"committed"})
        for name in ("first", "second", "latest"):
            self.assertEqual(self.verify(name).code, 0)
        self.assertEqual(self.verify("third").code, 3)
        self.interrupt(process)
        self.finish(process)
        self.run_ok("checkpoint", "gc", "--keep", 1, "--checkpoint_dir", self.store)
        self.assertEqual([each["name"] for each in self.ls()], ["second"])
        self.assertEqual(self.verify("latest").code, 0, "what it shared with the other is still there")

    def test_names_lead_nowhere(self):
        process, address = self.start_run(settings=["train.epochs=200", "train.batch_size=32"])
        self.create_when_running(process, address, "good")
        before = sorted(str(path) for path in self.folder.rglob("*") if "logs" not in str(path))
        for name in ("../../etc/passwd", "/tmp/x", "a/b", "CON", "x" * 300, "\u2024\u2024", ".hidden", "-x", "a b",
                     "latest"):
            for action in ("create", "restore", "verify"):
                if name == "latest" and action != "create":
                    continue
                outcome = self.sheaf("checkpoint", action, "--scheduler", address, "--checkpoint_dir", self.store, "--",
                                     name)
                self.assertEqual(outcome.code, 2, (name, outcome))
        self.assertEqual(sorted(str(path) for path in self.folder.rglob("*") if "logs" not in str(path)), before)
        self.interrupt(process)
        self.finish(process)

    def test_bsp_killed_and_restored_onto_other_servers_comes_to_the_same_bytes(self):
        process, address = self.start_run("--servers", 2, settings=BSP)
        self.create_when_running(process, address)
        self.kill_run(process)
        passes = [self.ls()[-1]["pass"]]
        model = self.folder / "restored.model"
        for servers in (3, 2, 1):
            last = servers == 1
            logs = self.folder / f"logs-on-{servers}"
            process = self.start("run", ADULT, "--checkpoint_dir", self.store, "--restore", "latest", "--servers",
                                 servers, "--workers", 1 + servers % 3, "--log_dir", logs, "--model", model)
            if last:
                outcome = self.finish(process)
                self.assertEqual(outcome.code, 0, outcome)
                continue
            address_file = logs / "scheduler.address"
            harness.wait_until(address_file.exists, 30, "the scheduler starts")
            self.create_when_running(process, address_file.read_text().strip())
            self.kill_run(process)
            passes.append(self.ls()[-1]["pass"])
        self.assertEqual(passes, sorted(passes))
        self.assertEqual(model.read_bytes(), self.quiet_model(BSP))

    def test_kills_and_restores_come_to_the_same_bytes(self):
        kills = harness.shorter(20, 6)
        epochs = 2 * kills  # a cycle takes one or two
        settings = BSP + [f"train.epochs={epochs}", "checkpoint.every_passes=1"]
        chance = random.Random(5)
        process, _ = self.start_run(settings=settings)
        cycles = 0
        while cycles < kills:
            seen = {each["name"] for each in self.ls()} if self.store.exists() else set()
            has_new = lambda: process.poll() is not None or {
                path.name for path in self.store.glob("[a-z]*") if (path / "MANIFEST").exists()} - seen
            harness.wait_until(has_new, 60, "another checkpoint is made")
            time.sleep(chance.uniform(0, 0.15))
            if process.poll() is not None:
                break
            self.kill_run(process)
            self.assertEqual(self.verify().code, 0)
            cycles += 1
            process = self.start("run", ADULT, "--checkpoint_dir", self.store, "--restore", "latest", "--servers",
                                 chance.choice([1, 2, 3]), "--model", self.folder / "restored.model", "--report",
                                 self.folder / "report.json")
        outcome = self.finish(process)
        self.assertEqual(outcome.code, 0, outcome)
        self.assertEqual(cycles, kills, "the job was over before: make it longer")
        self.assertEqual(json.loads((self.folder / "report.json").read_text())["examples_total"], ROWS * epochs)
        self.assertEqual((self.folder / "restored.model").read_bytes(), self.quiet_model(settings))

    def test_ssp_counts_every_example_once_after_a_restore(self):
        settings = ["train.epochs=20", "train.batch_size=16"]
        process, address = self.start_run(settings=settings)
        self.create_when_running(process, address)
        self.kill_run(process)
        report = self.folder / "report.json"
        outcome = self.restore_run("--servers", 3, "--workers", 3, "--report", report)
        self.assertEqual(outcome.code, 0, outcome)
        report = json.loads(report.read_text())
        self.assertEqual(report["examples_total"], ROWS * 20)
        self.assertGreater(report["test"]["accuracy"], 0.845)

    def test_what_was_restored_outlives_its_servers(self):
        process, address = self.start_run(settings=BSP)
        self.create_when_running(process, address)
        self.kill_run(process)
        model = self.folder / "restored.model"
        process = self.start("run", ADULT, "--checkpoint_dir", self.store, "--restore", "latest", "--servers", 2,
                             "--store_dir", self.folder / "store", "--model", model)
        killed = self.kill_now_and_then(process, "sheaf-server", 4, (0.3, 0.8), random.Random(7), all_at_once=True)
        outcome = self.finish(process)
        self.assertEqual(outcome.code, 0, outcome)
        self.assertGreaterEqual(killed, 1)
        self.assertEqual(model.read_bytes(), self.quiet_model(BSP))

    def test_whoever_dies_while_one_is_made_latest_is_whole_and_the_job_goes_on(self):
        settings = ["train.epochs=400", "train.batch_size=64", "checkpoint.every_s=1"]
        process, address = self.start_run("--store_dir", self.folder / "store", settings=settings)
        self.create_when_running(process, address, "before")
        chance = random.Random(11)
        for program in ("sheaf-server", "sheaf-worker", "sheaf-scheduler") * harness.shorter(4, 2):
            if process.poll() is not None:
                break
            maker = self.start("checkpoint", "create", "--scheduler", address, "--timeout", 30)
            time.sleep(chance.uniform(0, 0.06))
            for pid in self.processes_of(process, program)[:1]:
                os.kill(pid, signal.SIGKILL)
            self.finish(maker, timeout=60)  # made or not
            self.assertEqual(self.verify().code, 0)
        made = self.create_when_running(process, address) if process.poll() is None else None
        if made is not None:
            self.interrupt(process)
        self.finish(process)
        self.assertEqual(self.verify().code, 0)
        self.run_ok("checkpoint", "gc", "--keep", 2, "--checkpoint_dir", self.store)
        self.assertEqual([path.name for path in self.store.iterdir() if path.name.startswith(".")], [], "no leftovers")

    def test_a_changed_file_is_named_and_the_checkpoint_before_can_be_restored(self):
        process, address = self.start_run(settings=BSP)
        self.create_when_running(process, address, "good")
        self.assertEqual(self.create(address, "whole", "--whole").code, 0)
        self.kill_run(process)
        file = sorted((self.store / "whole").glob("p*"))[5]
        whole = file.read_bytes()
        for damaged in (whole[:-1], whole[:50] + bytes([whole[50] ^ 1]) + whole[51:], b""):
            file.write_bytes(damaged)
            self.expect_failure(self.verify("whole"), 1, file.name, "damaged")
            self.expect_failure(self.restore_run(), 1, file.name, "restore another one")
        self.assertEqual(self.verify("good").code, 0)
        manifest = self.store / "whole" / "MANIFEST"
        bytes_of = manifest.read_bytes()
        manifest.write_bytes(bytes_of.replace(b"p00003.", b"p00004.", 1))
        self.expect_failure(self.verify("whole"), 1, "MANIFEST", "damaged")
        self.assertIn("damaged", {each["name"]: each["state"] for each in self.ls()}["whole"])
        model = self.folder / "restored.model"
        outcome = self.sheaf("run", ADULT, "--checkpoint_dir", self.store, "--restore", "good", "--model", model)
        self.assertEqual(outcome.code, 0, outcome)
        self.assertEqual(model.read_bytes(), self.quiet_model(BSP))

    def test_a_full_disk_costs_the_checkpoint_and_nothing_else(self):
        report = self.folder / "report.json"
        process, address = self.start_run("--servers", 1, "--report", report,
                                          settings=["train.epochs=60", "train.batch_size=16"])
        self.create_when_running(process, address, "before")
        server = self.processes_of(process, "sheaf-server")[0]
        unlimited = resource.prlimit(server, resource.RLIMIT_FSIZE)
        resource.prlimit(server, resource.RLIMIT_FSIZE, (64, unlimited[1]))
        self.expect_failure(self.create(address, "during", "--whole"), 1, "was not made", "p0")
        resource.prlimit(server, resource.RLIMIT_FSIZE, unlimited)
        self.assertEqual([each["name"] for each in self.ls()], ["before"])
        self.create_when_running(process, address, "after")
        self.assertEqual([path.name for path in self.store.iterdir() if path.name.startswith(".")], [], "no leftovers")
        outcome = self.finish(process)
        self.assertEqual(outcome.code, 0, outcome)
        self.assertEqual(json.loads(report.read_text())["examples_total"], ROWS * 60)

    def test_periodic_ones_are_made_and_only_so_many_are_kept(self):
        outcome = self.sheaf("run", ADULT, "--checkpoint_dir", self.store,
                             *self.options(BSP + ["checkpoint.every_passes=1", "checkpoint.keep=2"]))
        self.assertEqual(outcome.code, 0, outcome)
        self.assertLessEqual(len(self.ls()), 2)
        self.assertEqual(self.verify().code, 0)

    def test_what_is_missing_is_said(self):
        self.expect_failure(self.sheaf("run", ADULT, "--set", "checkpoint.every_s=5"), (1, 78), "--checkpoint_dir")
        self.expect_failure(self.sheaf("run", ADULT, "--restore", "latest"), 78, "--checkpoint_dir")
        self.expect_failure(self.sheaf("checkpoint", "ls"), 78, "--checkpoint_dir")
        self.store.mkdir()
        self.expect_failure(self.restore_run(), 3, "there is no checkpoint")
        self.expect_failure(self.sheaf("checkpoint", "make"), 2, "create")


if __name__ == "__main__":
    harness.main()
