"""Jobs of a sweep on this machine: one process per device, each takes the next job when it is done with one."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from segscale.errors import UserError

from .job_process import JobProcess
from .progress import stored_images
from .record import JobRecord, JobState, SweepFolder

LOOK_SECONDS = 2.0
"""Between two looks at how many images are stored."""
END_SECONDS = 60.0
"""A command that was asked to end gets so long to store what it has."""


class LocalExecutor:
    """Runs jobs on devices, and shows how they fare."""

    def __init__(self, sweep: SweepFolder, logs: Path, devices: Sequence[str]) -> None:
        self.sweep, self.logs, self.devices = sweep, logs, devices
        self._waiting: deque[JobRecord] = deque()
        self._running: dict[str, JobProcess] = {}
        self._changed = threading.Condition()
        self._ended: list[tuple[JobRecord, JobState]] = []
        self._broken: list[BaseException] = []
        self._stopping = False

    def run(self, jobs: Sequence[JobRecord]) -> None:
        """Run all jobs, whatever becomes of each.

        An interrupt or signal stops the children as it would stop them alone: each stores what it computed.
        """
        self.sweep.reset(jobs)
        self._waiting.extend(jobs)
        threads = [threading.Thread(target=self._serve, args=(device,)) for device in self.devices[: len(jobs)]]
        for thread in threads:
            thread.start()
        try:
            self._show(jobs, threads)
        finally:
            self._stop()
            for thread in threads:
                thread.join()
        if self._broken:
            raise self._broken[0]

    def _serve(self, device: str) -> None:
        """One device's share."""
        try:
            for process in self._next_jobs(device):
                state = process.run()
                with self._changed:
                    del self._running[process.job.key]
                    self._ended.append((process.job, state))
                    self._changed.notify_all()
        except (OSError, UserError) as error:  # the disk of the results, not a job
            with self._changed:
                self._broken.append(error)
                self._changed.notify_all()

    def _next_jobs(self, device: str) -> Iterator[JobProcess]:
        while True:
            with self._changed:
                if self._stopping or not self._waiting:
                    return
                job = self._waiting.popleft()
                process = JobProcess(self.sweep, job, self.logs / f"{job.key}.log", device)
                self._running[job.key] = process
            yield process

    def _show(self, jobs: Sequence[JobRecord], threads: Sequence[threading.Thread]) -> None:
        """A bar over all images, and a line above it for each job that ended, until all did."""
        total = sum(job.images * sum(not cell.problem for cell in job.cells) for job in jobs)
        counts = {job.key: stored_images(self.sweep.results, job) for job in jobs}
        shown = 0
        with tqdm(total=total, initial=sum(counts.values()), unit="image", desc=f"{len(jobs)} jobs") as bar:
            while any(thread.is_alive() for thread in threads):
                with self._changed:
                    self._changed.wait(LOOK_SECONDS)
                    ended, running = self._ended[shown:], [process.job for process in self._running.values()]
                for job in (*running, *(job for job, _ in ended)):
                    counts[job.key] = stored_images(self.sweep.results, job)
                for job, state in ended:
                    bar.write(ended_line(job, state))
                shown += len(ended)
                bar.n = sum(counts.values())
                bar.set_description(f"{shown} of {len(jobs)} jobs", refresh=False)
                bar.set_postfix_str("; ".join(job.label for job in running), refresh=False)
                if ended or sys.stderr.isatty():
                    bar.refresh()
            for job, state in self._ended[shown:]:
                bar.write(ended_line(job, state))

    def _stop(self) -> None:
        with self._changed:
            self._stopping = True
            running = list(self._running.values())
        for process in running:
            process.stop()
        for process in running:
            process.wait(END_SECONDS)


def ended_line(job: JobRecord, state: JobState) -> str:
    """How a job ended, in one line."""
    failures = "; ".join(f"{method}: {line}" for method, line in state.failures.items())
    return f"{state.outcome:8} {job.label}" + (f": {failures}" if failures else "")
