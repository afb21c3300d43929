"""What is done to the cluster: drawn from a seed, begun, healed, and remembered with its time."""

import random
import time

from cluster import now

# Kind -> its share. The first word is the sort that the table counts it under.
KINDS = {
    "kill a server": 24,
    "kill a worker": 10,
    "kill the scheduler": 10,
    "kill a client": 5,
    "kill all servers": 3,
    "kill ahead of its copies": 6,
    "pause a server": 14,
    "pause a worker": 7,
    "pause the scheduler": 7,
    "network: delay": 4,
    "network: slow": 3,
    "network: silent one way": 5,
    "network: reset": 5,
    "network: cut in mid-frame": 5,
    "cut off, both ways": 4,
    "cut off, one way": 4,
    "cut a link, both ways": 4,
    "cut a link, one way": 4,
    "full disk": 2,
}
PAUSE = (0.5, 3.5)           # between the beginnings of two acts
MOST_AT_ONCE = 3             # of those that last
SHORT = (0.2, 0.6)           # a killed process is back at once ...
LONG = (1.5, 4.0)            # ... or when others have taken over
AHEAD = (0.2, 0.8)
LASTS = {"pause": (0.1, 5.0), "network": (0.3, 3.0), "cut": (0.3, 4.0), "full": (1.0, 4.0)}


class Act:
    def __init__(self, kind, text, ends=None, heal=None, on=None):
        self.kind, self.text, self.on = kind, text, on
        self.begin = now()
        self.ends = ends
        self.heal = heal
        self.gaps = []


class Actions:
    """The generator. `skipped`: kind -> why this machine cannot do it."""

    def __init__(self, cluster, load, seed, small_disk):
        self.cluster, self.load = cluster, load
        self.chance = random.Random(seed)
        self.small_disk = small_disk
        self.done = []
        self.lasting = []
        self.next_at = now()
        self.log = open(cluster.logs / "acts.log", "w", buffering=1)
        self.skipped = {}
        if cluster.network.why_no_cuts:
            self.skipped = {kind: cluster.network.why_no_cuts for kind in KINDS if kind.startswith("cut")}
        self.weights = {kind: share for kind, share in KINDS.items() if kind not in self.skipped}

    def look(self):
        """Heals what has lasted long enough, and does something else when it is time."""
        for act in [act for act in self.lasting if act.ends <= now()]:
            self._heal(act)
        if now() >= self.next_at:
            self.next_at = now() + self.chance.uniform(*PAUSE)
            act = self._draw()
            if act:
                self.done.append(act)
                self.log.write(f"{time.strftime('%H:%M:%S')} {act.text}\n")   # beside the times of other logs
                if act.heal:
                    self.lasting.append(act)

    def heal_all(self):
        for act in list(self.lasting):
            self._heal(act)

    def close(self):
        self.log.close()

    def _heal(self, act):
        act.heal()
        self.lasting.remove(act)

    def _names(self, *roles):
        return [name for name, node in self.cluster.nodes.items() if node.role in roles]

    def _draw(self):
        for _ in range(20):
            kind = self.chance.choices(list(self.weights), list(self.weights.values()))[0]
            if not kind.startswith("kill") and len(self.lasting) >= MOST_AT_ONCE:
                continue
            act = self._do(kind)
            if act:
                return act
        return None

    def _lasts(self, sort):
        return self.chance.uniform(*LASTS[sort])

    def _do(self, kind):
        sort, _, what = kind.partition(" ")
        if sort == "kill":
            return self._kill(kind, what)
        if sort == "pause":
            return self._pause(kind, what)
        if sort == "network:":
            return self._spoil(kind, what)
        if sort == "cut":
            return self._cut(kind)
        return self._fill(kind)

    def _kill(self, kind, what):
        chance = self.chance
        again = chance.uniform(*(SHORT if chance.random() < 0.4 else LONG))
        if what == "a client":
            name = self.load.kill_client(chance)
            return Act(kind, f"kill {name}") if name else None
        if what == "all servers":
            for name in self._names("server"):
                self.cluster.kill(name, chance.uniform(*SHORT))
            return Act(kind, "kill all servers")
        if what == "ahead of its copies":
            return self._kill_ahead(kind, again)
        name = chance.choice(self._names(what.split()[1]))
        if not self.cluster.nodes[name].up:
            return None
        act = Act(kind, f"kill {name}")
        self.cluster.kill(name, again)
        return act

    def _kill_ahead(self, kind, again):
        """Nothing reaches the other servers for a while; then the one that could not tell them dies, and what was on
        its way is lost. Whatever it acknowledged meanwhile would be gone when they take over."""
        name = self.chance.choice(self._names("server"))
        others = [other for other in self._names("server") if other != name]
        if self._busy(name) or any(act.on == "network of " + other for act in self.lasting for other in others):
            return None
        for other in others:
            self.cluster.spoil("hold", other, "up")

        def strike():
            self.cluster.kill(name, again)
            for other in others:
                self.cluster.spoil("reset", other)
                self.cluster.spoil("heal", other)

        return Act(kind, f"silence before {', '.join(others)}, then kill {name}",
                   now() + self.chance.uniform(*AHEAD), strike, "network of " + others[0])

    def _busy(self, name):
        return any(act.on == name for act in self.lasting) or not self.cluster.nodes[name].up

    def _pause(self, kind, what):
        name = self.chance.choice(self._names(what.split()[1]))
        if self._busy(name):
            return None
        lasts = self._lasts("pause")
        self.cluster.pause(name)
        return Act(kind, f"pause {name} for {lasts:.1f} s", now() + lasts, lambda: self.cluster.resume(name), name)

    def _spoil(self, kind, what):
        name, lasts = self.chance.choice(self._names("server", "scheduler")), self._lasts("network")
        on = "network of " + name
        if any(act.on == on for act in self.lasting):
            return None
        reset = self.chance.random() < 0.5      # a connection that was silent goes on, or is gone

        def heal():
            self.cluster.spoil("heal", name)
            if what == "silent one way" and reset:
                self.cluster.spoil("reset", name)

        if what == "reset":
            self.cluster.spoil("reset", name)
            return Act(kind, f"reset all connections to {name}")
        order = {"delay": ("delay", name, f"{self.chance.uniform(0.005, 0.2):.3f}"),
                 "slow": ("slow", name, self.chance.choice((50_000, 300_000, 2_000_000))),
                 "silent one way": ("hold", name, self.chance.choice(("up", "down"))),
                 "cut in mid-frame": ("tear", name)}[what]
        self.cluster.spoil(*order)
        return Act(kind, f"{what}: {' '.join(map(str, order))}", now() + lasts, heal, on)

    def _cut(self, kind):
        network, chance = self.cluster.network, self.chance
        name = chance.choice(list(self.cluster.nodes))
        on = "wire of " + name
        if any(act.on == on for act in self.lasting):
            return None
        lasts = self._lasts("cut")
        chains = ("INPUT", "OUTPUT") if "both" in kind else (chance.choice(("INPUT", "OUTPUT")),)
        if "link" in kind:
            other = chance.choice([other for other in self._names("server", "scheduler") if other != name])
            if name == "scheduler":
                return None                     # it asks nobody
            network.cut_link(name, other, chains)
            text = f"cut {name} -> {other} ({'+'.join(chains)}) for {lasts:.1f} s"
        else:
            network.cut_off(name, chains)
            text = f"cut {name} off ({'+'.join(chains)}) for {lasts:.1f} s"
        return Act(kind, text, now() + lasts, lambda: network.heal(name), on)

    def _fill(self, kind):
        name, lasts = self.small_disk, self._lasts("full")
        on = "disk of " + name
        if any(act.on == on for act in self.lasting):
            return None
        self.cluster.fill_disk(name)
        return Act(kind, f"fill the disk of {name} for {lasts:.1f} s", now() + lasts,
                   lambda: self.cluster.empty_disk(name), on)
