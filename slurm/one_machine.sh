#!/bin/bash
# Starts a SLURM on this one machine, to try launch=slurm. Not for production: it has no accounts, GPUs or limits.
#
#   slurm/one_machine.sh start FOLDER     # writes FOLDER/slurm.conf, starts munged, slurmctld and slurmd, waits for them
#   export SLURM_CONF=FOLDER/slurm.conf   # then sbatch, squeue, avssl train launch=slurm …
#   slurm/one_machine.sh stop FOLDER
#
# Run it as root. It installs SLURM with apt (Debian, Ubuntu) if it is missing. A requeued job starts again within seconds, and a
# job that does not end is killed within seconds; on most clusters both take minutes. Time limits are in whole minutes, as usual.
set -euo pipefail

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
fail() { echo "one_machine.sh: $*" >&2; exit 1; }
[ $# = 2 ] || usage
action=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
export SLURM_CONF=$folder/slurm.conf

install() {
  command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null && return
  [ "$(id -u)" = 0 ] || fail "slurmctld, slurmd or munged is missing, and only root can install them"
  command -v apt-get >/dev/null || fail "slurmctld, slurmd or munged is missing: install SLURM and munge"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >/dev/null || true
  apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge >"$folder/apt.log" 2>&1 ||
    fail "SLURM could not be installed by apt: $folder/apt.log says why"
}

# A munged with its own key and socket, so that a running one is not disturbed.
munge() {
  mkdir -p "$folder/munge"
  head -c 1024 /dev/urandom >"$folder/munge/key"
  chmod 700 "$folder/munge" && chmod 400 "$folder/munge/key"
  # munge wants every folder above its socket to be closed to writing by others, which a test's folder may not be
  socket_folder=$(mktemp -d /run/avssl-munge.XXXXXX)
  chmod 755 "$socket_folder"
  echo "$socket_folder" >"$folder/munge.socket"
  if [ "$(id -u)" = 0 ] && id munge >/dev/null 2>&1; then
    mv "$folder/munge/key" "$socket_folder/key"
    chown -R munge "$socket_folder"
    runuser -u munge -- munged --key-file="$socket_folder/key" --socket="$socket_folder/socket" \
      --pid-file="$socket_folder/pid" --log-file="$socket_folder/log" --seed-file="$socket_folder/seed" --force
  else
    fail "there is no user munge: install munge"
  fi
}

configure() {
  local port cores memory host
  host=$(hostname -s)
  cores=$(getconf _NPROCESSORS_ONLN)
  cores=$((cores < 4 ? 4 : cores))  # SLURM may think so: config_overrides
  memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
  port=$((20000 + RANDOM % 10000))
  mkdir -p "$folder/state" "$folder/spool"
  cat >"$folder/slurm.conf" <<CONF
ClusterName=onemachine
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
SlurmdUser=root
# no two on this machine count from the same number: jobs take their ports by it
FirstJobId=$((port * 1000))
# cred_expire is also how long a requeued job waits before it starts again: 120 s by default
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$(cat "$folder/munge.socket")/socket,cred_expire=6
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,defer_batch=0
JobRequeue=1
OverTimeLimit=0
KillWait=10
MinJobAge=600
ReturnToService=2
MessageTimeout=30
SlurmdTimeout=120
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$memory State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
}

wait_for() {  # wait_for SECONDS COMMAND…
  local left=$(($1 * 5))
  shift
  until "$@" >/dev/null 2>&1; do
    left=$((left - 1))
    [ $left -gt 0 ] || return 1
    sleep 0.2
  done
}

idle() { sinfo -h -o %T | grep -qE 'idle|mixed|alloc'; }

start() {
  [ ! -e "$folder/slurmctld.pid" ] || fail "it is running already in $folder: one_machine.sh stop $folder"
  install
  munge
  configure
  slurmctld -c
  slurmd
  wait_for 30 idle || fail "SLURM did not come up in 30 s: $folder/slurmctld.log and slurmd.log say why"
  echo "export SLURM_CONF=$SLURM_CONF"
}

stop() {
  local pid
  scancel --user="$(id -un)" 2>/dev/null || true
  for name in slurmd slurmctld; do
    pid=$(cat "$folder/$name.pid" 2>/dev/null) || continue
    kill "$pid" 2>/dev/null || continue
    wait_for 15 test ! -e "/proc/$pid" || kill -9 "$pid"
  done
  if [ -e "$folder/munge.socket" ]; then
    socket_folder=$(cat "$folder/munge.socket")
    pid=$(cat "$socket_folder/pid" 2>/dev/null) && kill "$pid" 2>/dev/null || true
    wait_for 5 test ! -e "/proc/$pid" || true
    rm -rf "$socket_folder" "$folder/munge.socket" "$folder/munge"
  fi
  rm -f "$folder"/slurm{d,ctld}.pid
}

case $action in
  start) start ;;
  stop) stop ;;
  *) usage ;;
esac
