#!/usr/bin/env python3
"""Breaks a cluster of real processes for a while, and checks that nothing was lost and nothing counted twice.

A scheduler, three servers with two copies of each partition and two workers run training jobs, one after the other, and
clients push integers to each job's table. Meanwhile processes are killed and paused, connections spoilt, wires cut and
a disk filled up, as a seed says; whatever ends is started again. See scripts/chaos.sh --help.
"""

import argparse
import json
import pathlib
import random
import shutil
import sys
import tempfile
import time

from actions import KINDS, Actions
from cluster import CLIENT, PROGRAMS, Cluster, now
from load import Load
import harness

TICK = 0.02
TAIL_LINES = 15
LEAST_A_MINUTE = 6           # kills and pauses
LONG_PAUSE = 3.0             # seconds: more than one fault
LONGEST_PAUSES = 5
AFTER_KILL = 60              # within which backups take over and new copies are in sync


class Hangs(Exception):
    """Something did not come to its end in time."""


class Run:
    def __init__(self, options, folder):
        self.options = options
        data = harness.ROOT / "examples" / "data"
        self.cluster = Cluster(folder, options.servers, options.workers, data)
        self.small_disk = f"server-{options.servers - 1}"
        self.why_no_tmpfs = self.cluster.mount_small_disk(self.small_disk)
        self.load = Load(self.cluster, options.clients, options.seed, options.epochs, random.Random(options.seed + 1))
        self.actions = Actions(self.cluster, self.load, options.seed, self.small_disk)
        self.begin = now()
        self.next_line = 0.0
        self.replicas = "not compared"
        self.wrong = []

    # ---- the run ----

    def execute(self):
        self.cluster.start()
        self.wait(lambda: self.load.acknowledged() > 0 or self.load.wrong, 60, "the first push is acknowledged")
        self.begin = now()
        end = self.begin + 60 * self.options.minutes
        while now() < end and not self.load.wrong:
            self.tick()
            self.actions.look()
            self.progress(end)
        self.actions.heal_all()
        self.load.more = False
        self.wait(lambda: self.load.over or self.load.wrong, self.options.settle,
                  "the last job and its clients end after the last fault")
        if not self.load.wrong:
            self.compare_replicas()

    def tick(self):
        self.cluster.look()
        self.load.look()
        time.sleep(TICK)

    def wait(self, condition, seconds, what):
        end = now() + seconds
        while not condition():
            if now() >= end:
                raise Hangs(f"not within {seconds:.0f} s: {what}")
            self.tick()

    def ask(self, *arguments, seconds=AFTER_KILL):
        """Our client's answer; the cluster is looked after meanwhile."""
        with tempfile.TemporaryFile("w+") as out:
            process = self.cluster.spawn("client", "ask", CLIENT, *arguments,
                                         f"--scheduler={self.cluster.scheduler_address}", stdout=out)
            try:
                self.wait(lambda: process.poll() is not None, seconds + 10, " ".join(arguments))
            except Hangs:
                process.kill()
                raise
            if process.returncode != 0:
                raise Hangs(f"{' '.join(arguments)}: {self.cluster.last_line('ask')}")
            out.seek(0)
            return out.read()

    def settle(self, servers, without=""):
        self.ask("settle", f"--servers={servers}", f"--without={without}", f"--within_s={AFTER_KILL}")

    def compare_replicas(self):
        """What backups have shows when they take over: each server is killed in its turn, then all at once, so that
        what comes back from their disks shows, too."""
        servers = [name for name, node in self.cluster.nodes.items() if node.role == "server"]
        self.settle(len(servers))
        first = json.loads(self.ask("digest"))
        for name in servers:
            self.cluster.kill(name, 3600)
            self.settle(len(servers) - 1, name)
            self.compare(first, f"after {name} was killed and backups took over")
            self.cluster.nodes[name].start_at = now()
            self.settle(len(servers))
        for name in servers:
            self.cluster.kill(name, 0.2)
        self.settle(len(servers))
        self.compare(first, "after all servers were killed and started again")
        self.replicas = f"identical: {first['rows']:,} rows, {len(servers)} take-overs and a start of all from disk"

    def compare(self, first, when):
        then = json.loads(self.ask("digest"))
        if then == first:
            return
        differ = [p for p in first["digests"] if first["digests"][p] != then["digests"].get(p)]
        self.replicas = "DIFFERENT"
        self.wrong.append(f"{when}, {len(differ)} partitions differ (the first: {', '.join(differ[:5])}); "
                          f"rows {first['rows']} and {then['rows']}")

    # ---- what people see ----

    def progress(self, end):
        if now() < self.next_line:
            return
        terminal = sys.stderr.isatty()
        self.next_line = now() + (0.5 if terminal else 15)
        acts = self.actions.done
        kinds = [act.kind.split()[0].rstrip(":") for act in acts]
        line = (f"chaos {clock(now() - self.begin)}  ETA {clock(end - now())}  kills {kinds.count('kill')}  pauses "
                f"{kinds.count('pause')}  network {kinds.count('network') + kinds.count('cut')}  disk "
                f"{kinds.count('full')}  pushes {self.load.acknowledged():,}  job {self.load.round} "
                f"{getattr(self.load, 'mode', '')}  {acts[-1].text if acts else ''}")
        sys.stderr.write(f"\r{line[:shutil.get_terminal_size().columns - 1]}\x1b[K" if terminal else line + "\n")
        sys.stderr.flush()

    def table(self):
        """Each pause of a client's pushes belongs to the last act that had begun by then."""
        acts = self.actions.done
        for begin, end in self.stalls():
            before = [act for act in acts if act.begin <= begin + 0.2]
            if before:
                before[-1].gaps.append(end - max(begin, before[-1].begin))
        print(f"\n{'act':<26}{'times':>6}   worst gap of a client's pushes")
        for kind in KINDS:
            of_kind = [act for act in acts if act.kind == kind]
            worst = max((gap for act in of_kind for gap in act.gaps), default=0)
            note = f"{worst:9.2f} s" if of_kind else "        -"
            if kind in self.actions.skipped:
                note = f"skipped: {self.actions.skipped[kind]}"
            if kind == "full disk" and self.why_no_tmpfs:
                note += f"   ({self.why_no_tmpfs})"
            print(f"{kind:<26}{len(of_kind):>6}   {note}")

    def longest_pauses(self):
        """The pauses of clients' pushes that bear a look, each with what came in the seconds before its end."""
        pauses = {}
        for begin, end in self.stalls():
            if end - begin >= LONG_PAUSE:
                pauses[round(end)] = max(pauses.get(round(end), (0, 0)), (end - begin, end))
        for length, end in sorted(pauses.values(), reverse=True)[:LONGEST_PAUSES]:
            acts = [act for act in self.actions.done if end - length - 2 <= act.begin <= end]
            print(f"a pause of {length:.1f} s, to {end - self.begin:.1f} s: "
                  + "; ".join(f"{act.begin - self.begin:.1f} {act.text}" for act in acts))

    def stalls(self):
        if not self.load.stalls.exists():
            return []
        return [tuple(map(float, line.split())) for line in self.load.stalls.read_text().splitlines()]

    def verdict(self):
        load, cluster = self.load, self.cluster
        kills = sum(act.kind.startswith(("kill", "pause")) for act in self.actions.done)
        wrong = [*self.wrong, *load.wrong, *(f"a crash: {line}" for line in cluster.crashes)]
        if kills < LEAST_A_MINUTE * self.options.minutes:
            wrong.append("too few kills and pauses: this proves little")
        print(f"\nkills and pauses     {kills} in {clock(now() - self.begin)} (all that was done to it: "
              f"{len(self.actions.done)}); {cluster.restarts} processes started again, "
              f"{len(cluster.gave_up)} of them had given up")
        print(f"pushes acknowledged  {load.pushes:,}")
        print(f"lost                 {load.lost:g}")
        print(f"applied twice        {load.repeated:g}")
        print(f"training             {load.jobs} jobs, {load.examples:,} examples"
              f"{'' if any('examples_total' in line for line in load.wrong) else ', exact'}")
        print(f"replicas             {self.replicas}")
        print(f"crashes              {len(cluster.crashes)}")
        for node in sorted({line.split()[0] for line in cluster.gave_up}):
            lines = [line for line in cluster.gave_up if line.split()[0] == node]
            print(f"gave up, {len(lines)} times: {lines[-1]}")
        for line in wrong:
            print(f"WRONG: {line}")
        return not wrong

    def dump(self):
        """Where everything stands: the ends of all logs, and what was done last."""
        print("\nthe last acts:")
        for act in self.actions.done[-15:]:
            print(f"  {act.begin - self.begin:7.1f} s  {act.text}")
        for name, node in self.cluster.nodes.items():
            print(f"\n{name} ({'pid ' + str(node.process.pid) if node.up else 'down'}):")
            self.tail(name)
        for log in sorted(self.cluster.logs.glob("[!sw]*.log")) + sorted(self.cluster.logs.glob("submit*.log"))[-1:]:
            print(f"\n{log.name}:")
            self.tail(log.stem)

    def tail(self, name):
        path = self.cluster.logs / f"{name}.log"
        lines = path.read_text(errors="replace").splitlines()[-TAIL_LINES:] if path.exists() else []
        print("\n".join("  | " + line for line in lines))

    def close(self):
        self.load.close()
        self.cluster.close()
        self.actions.close()


def clock(seconds):
    return f"{max(0, int(seconds)) // 60}:{max(0, int(seconds)) % 60:02d}"


def main():
    parser = argparse.ArgumentParser(description="Breaks a cluster of real processes, and checks what became of it.")
    parser.add_argument("--minutes", type=float, default=2, help="how long it is broken (2)")
    parser.add_argument("--seed", type=int, default=1, help="of what is done and pushed (1)")
    parser.add_argument("--settle", type=float, default=120, help="seconds it has to come to its end afterwards (120)")
    parser.add_argument("--servers", type=int, default=3, help="servers, 3 or more (3)")
    parser.add_argument("--workers", type=int, default=2, help="workers, 2 or more (2)")
    parser.add_argument("--clients", type=int, default=3, help="clients that push (3)")
    parser.add_argument("--epochs", type=int, default=20, help="of each training job, of 32,561 examples (20)")
    parser.add_argument("--folder", type=pathlib.Path, help="stores and logs, kept (else temporary, kept on failure)")
    options = parser.parse_args()
    if options.servers < 3 or options.workers < 2 or options.clients < 1:
        parser.error("--servers must be 3 or more, --workers 2 or more, --clients 1 or more")
    missing = [program for program in [harness.SHEAF, CLIENT, *(harness.BIN / name for name in PROGRAMS.values())]
               if not program.exists()]
    if missing:
        parser.error(f"{missing[0]} is not built (SHEAF_BIN names the folder)")
    folder = options.folder
    if folder:
        folder.mkdir(parents=True)
        folder = folder.resolve()
    else:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="sheaf-chaos-"))
    sys.exit(0 if run(options, folder) else 1)


def run(options, folder):
    good = False
    chaos = Run(options, folder)
    try:
        print(f"chaos: seed {options.seed}, {options.minutes:g} minutes, {options.servers} servers, {options.workers} "
              f"workers, {options.clients} clients; logs in {chaos.cluster.logs}", flush=True)
        try:
            chaos.execute()
        except Hangs as hang:
            chaos.wrong.append(str(hang))
        chaos.table()
        chaos.longest_pauses()
        good = chaos.verdict()
        if not good:
            chaos.dump()
    finally:
        chaos.close()
        if good and not options.folder:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"chaos: {'all holds' if good else 'it does NOT hold; logs in ' + str(chaos.cluster.logs)}")
    return good


if __name__ == "__main__":
    main()
