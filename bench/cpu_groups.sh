# Control groups that hold a process to a share of one processor. Sourced by the scripts beside it; needs root.
# shellcheck shell=bash
[[ $EUID == 0 ]] || { echo "control groups need root" >&2; exit 1; }
if [[ -f /sys/fs/cgroup/cgroup.controllers ]]; then
  groups=/sys/fs/cgroup version=2
elif [[ -d /sys/fs/cgroup/cpu ]]; then
  groups=/sys/fs/cgroup/cpu version=1
else
  echo "no control groups below /sys/fs/cgroup" >&2
  exit 1
fi

# make_group NAME PERCENT: of one processor, 1 ms (the least that the system grants) at a time, so that a process is
# slowed rather than stopped now and then. NAME begins with sheaf-bench-.
make_group() {
  mkdir -p "$groups/$1"
  if ((version == 2)); then
    echo "1000 $((100000 / $2))" >"$groups/$1/cpu.max"
  else
    echo $((100000 / $2)) >"$groups/$1/cpu.cfs_period_us"
    echo 1000 >"$groups/$1/cpu.cfs_quota_us"
  fi
}

# slow_main_thread PID NAME: the thread that computes, and no other, is held to the group's share.
slow_main_thread() {
  if ((version == 2)); then
    echo threaded >"$groups/$2/cgroup.type"
    echo "$1" >"$groups/$2/cgroup.threads"
  else
    echo "$1" >"$groups/$2/tasks"
  fi
}

remove_groups() {
  for group in "$groups"/sheaf-bench-*; do [[ ! -d $group ]] || rmdir "$group" || true; done
}
