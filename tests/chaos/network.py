"""Where the processes of a chaos run listen: each at an address of its own, in a network namespace of its own if that
can be made, and reached by the others through a proxy that can spoil what passes (proxy.py).

  node X --> address of Y's proxy, in the hub's namespace --> address of Y

So a rule of X's firewall on the address of Y's proxy cuts what X asks of Y and nothing else.
"""

import ctypes
import os
import shutil
import signal
import subprocess

PORT = 7070
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None, use_errno=True)


def dies_with_parent():
    """For preexec_fn: what this driver starts does not outlive it."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def number_of(name):
    """The host part of a node's address; its proxy's is 100 more."""
    kind, _, index = name.partition("-")
    return {"hub": 1, "client": 40, "scheduler": 10, "server": 20, "worker": 30}[kind] + int(index or 0)


class Loopback:
    """All on this machine's loopback, in 127.A.B.0/24: without root. Firewalls cannot tell processes apart there."""

    why_no_cuts = "needs root, iptables and iproute2: all processes share this machine's loopback"

    def __init__(self, nodes):
        self.nodes = nodes
        pid = os.getpid()
        self.prefix = f"127.{64 + pid // 250 % 190}.{1 + pid % 250}"

    def own(self, name):
        return f"{self.prefix}.{number_of(name)}"

    def proxied(self, name):
        return f"{self.prefix}.{number_of(name) + 100}"

    def inside(self, name):
        return []

    def close(self):
        pass


class Namespaces:
    """A namespace for each node and one for clients, joined by a bridge in the hub's. They end with their holders."""

    why_no_cuts = None

    def __init__(self, nodes):
        self.nodes = nodes
        self.holders = {}
        try:
            for name in ("hub", *nodes):
                self.holders[name] = subprocess.Popen(
                    ["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"], preexec_fn=dies_with_parent,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for holder in self.holders.values():
                if not holder.stdout.readline():
                    raise OSError("unshare --net: " + holder.stderr.read().decode().strip())
            self._run("hub", "ip", "link", "add", "chaos", "type", "bridge")
            self._run("hub", "ip", "link", "set", "chaos", "up")
            for node in nodes:
                self._run("hub", "ip", "link", "add", f"to-{number_of(node)}", "type", "veth", "peer", "name", "eth0",
                          "netns", str(self.holders[node].pid))
                self._run("hub", "ip", "link", "set", f"to-{number_of(node)}", "master", "chaos", "up")
                self._run(node, "ip", "address", "add", f"{self.own(node)}/24", "dev", "eth0")
                self._run(node, "ip", "link", "set", "eth0", "up")
                self._run(node, "ip", "link", "set", "lo", "up")
            self._run("hub", "ip", "link", "set", "lo", "up")
            self._run("hub", "ip", "address", "add", f"{self.own('hub')}/24", "dev", "chaos")
            for node in nodes:
                if node == "scheduler" or node.startswith("server"):
                    self._run("hub", "ip", "address", "add", f"{self.proxied(node)}/24", "dev", "chaos")
            self._run("hub", "iptables", "-w", "-L", "INPUT", "-n")
        except (OSError, subprocess.CalledProcessError):
            self.close()
            raise

    def own(self, name):
        return f"10.93.7.{number_of(name)}"

    def proxied(self, name):
        return f"10.93.7.{number_of(name) + 100}"

    def inside(self, name):
        """What to put before a command so that it runs in the node's namespace, as the same process."""
        return ["nsenter", f"--net=/proc/{self.holders[name].pid}/ns/net", "--"]

    def _run(self, name, *command):
        subprocess.run([*self.inside(name), *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                       timeout=20)

    # ---- cuts: packets are dropped without a word, as by a broken switch ----

    def cut_off(self, name, chains):
        """From everybody. chains: INPUT, OUTPUT, or both."""
        for chain in chains:
            self._run(name, "iptables", "-w", "-A", chain, "-j", "DROP")

    def cut_link(self, name, other, chains):
        """What `name` asks of `other`, or what it gets back."""
        for chain in chains:
            where = "-d" if chain == "OUTPUT" else "-s"
            self._run(name, "iptables", "-w", "-A", chain, where, self.proxied(other), "-j", "DROP")

    def heal(self, name):
        self._run(name, "iptables", "-w", "-F")

    def close(self):
        for holder in self.holders.values():
            holder.kill()
            holder.wait()
            holder.stdout.close()
            holder.stderr.close()


def make(nodes):
    """Namespaces if they can be made, else the loopback, which says why."""
    missing = [program for program in ("unshare", "nsenter", "ip", "iptables") if not shutil.which(program)]
    why = "not root" if os.geteuid() != 0 else f"{', '.join(missing)} not installed" if missing else None
    if why is None:
        try:
            return Namespaces(nodes)
        except subprocess.CalledProcessError as error:
            why = f"{' '.join(error.cmd[3:])}: {error.stderr.decode().strip()}"
        except OSError as error:
            why = str(error)
    network = Loopback(nodes)
    network.why_no_cuts = why
    return network
