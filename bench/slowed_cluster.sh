# What scripts share that start a cluster of their own with workers held to a share of one processor: programs ($bin), a
# folder for the run ($work), control groups, and an end that leaves nothing behind. Sourced by them; needs root.
# shellcheck shell=bash
bin=build/release/bin
[[ -x $bin/sheaf ]] || { echo "no $bin/sheaf: run scripts/quickstart.sh first" >&2; exit 1; }
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

work=$(mktemp -d)
cleanup() {
  local running
  mapfile -t running < <(jobs -p)
  ((${#running[@]} == 0)) || kill "${running[@]}" 2>/dev/null || true
  wait || true
  remove_groups
  rm -rf "$work"
}
trap cleanup EXIT
