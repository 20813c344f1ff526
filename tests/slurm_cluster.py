"""A SLURM of one node on the loopback, for tests: Debian's ``slurm-wlm`` and ``munge``, as root, without systemd."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire={wait}
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=30
MinJobAge=300
PreemptMode=REQUEUE
PreemptType=preempt/partition_prio
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=4000 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=high Nodes={host} MaxTime=INFINITE State=UP PriorityTier=10
"""


REQUEUE_SECONDS = 5
"""What was requeued waits for a second more, until its node has forgotten that its credential was revoked; SLURM takes
no less."""


def missing() -> str | None:
    """What keeps a cluster from running here."""
    names = ("slurmctld", "slurmd", "sbatch", "munged")
    absent = [name for name in names if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if absent:
        return f"there is no {absent[0]}: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "a SLURM of its own needs root"


class Cluster:
    """A running cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().partition(".")[0]

    @property
    def configuration(self) -> Path:
        return self.folder / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """In which SLURM's commands talk to this cluster."""
        return os.environ | {"SLURM_CONF": str(self.configuration)}

    def start(self) -> None:
        """Start munge where it is not running, and both daemons; return when the node takes jobs."""
        for name in ("spool", "state", "log"):
            (self.folder / name).mkdir(parents=True)
        text = CONFIGURATION.format(
            host=self.host, folder=self.folder, ports=_free_ports(), cores=os.cpu_count(), wait=REQUEUE_SECONDS
        )
        self.configuration.write_text(text)
        _start_munge()
        for daemon in ("slurmctld", "slurmd"):
            subprocess.run([shutil.which(daemon) or f"/usr/sbin/{daemon}", "-f", str(self.configuration)], check=True)
        self.wait_for(lambda: "idle" in self.run("sinfo", "-h", "-o", "%T"), "the node to be idle")

    def stop(self) -> None:
        """End the daemons, and whatever jobs they run."""
        with suppress(subprocess.CalledProcessError):
            self.run("scancel", "--user", "root")
            self.wait_for(lambda: not self.run("squeue", "-h"), "all jobs to end")
        for daemon in ("slurmd", "slurmctld"):
            with suppress(OSError, ValueError):
                os.kill(int((self.folder / f"{daemon}.pid").read_text()), signal.SIGTERM)

    def run(self, *words: str) -> str:
        """What a command of SLURM's prints."""
        return subprocess.run(words, env=self.environment, check=True, capture_output=True, text=True).stdout

    def jobs(self, number: str) -> dict[str, str]:
        """State of every task of an array that SLURM still knows, by its index, empty for a job without array."""
        lines = self.run("squeue", "-h", "-r", "-t", "all", "-j", number, "-o", "%K %T").splitlines()
        return dict(line.split() for line in lines)

    def reasons(self, number: str) -> str:
        """Why the tasks of a job wait."""
        return self.run("squeue", "-h", "-j", number, "-o", "%r")

    @contextmanager
    def drained(self) -> Iterator[None]:
        """While the context lasts the node takes no jobs; those that it runs go on."""
        self.run("scontrol", "update", f"NodeName={self.host}", "State=DRAIN", "Reason=test")
        try:
            yield
        finally:
            self.run("scontrol", "update", f"NodeName={self.host}", "State=RESUME")

    def wait_for(self, condition: object, what: str, seconds: float = 300) -> None:
        """Until the function ``condition`` answers with something true."""
        assert callable(condition)
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"waited {seconds} s for {what}: {self.run('squeue', '-l')}")
            time.sleep(0.2)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster as long as the context lasts; ``SLURM_CONF`` names it."""
    running = Cluster(folder)
    before = os.environ.get("SLURM_CONF")
    try:
        running.start()
        os.environ["SLURM_CONF"] = str(running.configuration)
        yield running
    finally:
        running.stop()
        if before is None:
            os.environ.pop("SLURM_CONF", None)
        else:
            os.environ["SLURM_CONF"] = before


def _start_munge() -> None:
    if subprocess.run("munge -n </dev/null | unmunge", shell=True, capture_output=True).returncode == 0:
        return
    Path("/run/munge").mkdir(exist_ok=True)
    shutil.chown("/run/munge", "munge", "munge")
    subprocess.run(["runuser", "-u", "munge", "--", "/usr/sbin/munged", "--force"], check=True)
    time.sleep(0.5)


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]
