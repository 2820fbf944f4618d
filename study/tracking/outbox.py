"""What a store could not take while it was away: kept in the home, and delivered once when it is back.

Below `<home>/mlruns/outbox` each run has a folder: `store` names the store that it is for, `metrics.jsonl` has a value
of a metric a line, `tags.json` and `end.json` how the run ended, and below `files` lie artifacts at their paths. All of
it is on the disk before the work goes on.
"""

import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from study.config import Home
from study.errors import StoreFault, first_line
from study.system.debugging import show_if_debugging
from study.system.faults import is_passing, told
from study.system.files import whole, within
from study.system.redaction import masked
from study.tracking.retry import at_once, backoff
from study.tracking.runs import Point

if TYPE_CHECKING:
    from study.tracking.store import Store


@dataclass
class Delivered:
    """How much was delivered."""

    runs: int = 0
    values: int = 0
    files: int = 0

    def __str__(self) -> str:
        """In words."""
        return f"{self.values} values of metrics and {self.files} files of {self.runs} runs"


class Parcel:
    """What is kept of one run; to be had from `opened`."""

    def __init__(self, folder: Path):
        self.folder = folder

    def add_points(self, points: Sequence[Point]) -> None:
        """Keeps values of metrics."""
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            # First the end of a line that was being written when a process was killed, or the disk full.
            file.write("\n" + "".join(json.dumps(point) + "\n" for point in points))
            file.flush()
            os.fsync(file.fileno())

    def points(self) -> list[Point]:
        """The values of metrics; a line that was being written when its process was killed is none."""
        found = []
        with suppress(FileNotFoundError):
            for line in (self.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
                with suppress(ValueError):
                    found.append(Point(*json.loads(line)))
        return found

    def add_file(self, path: str, file: Path) -> None:
        """Keeps the artifact `path`, in the place of what was kept as that before."""
        with whole(within(self.folder / "files", path)) as kept:
            shutil.copyfile(file, kept)

    def files(self) -> dict[str, Path]:
        """The artifacts by their paths; what a training continues from comes last."""
        root = self.folder / "files"
        paths = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")]
        named = {path.relative_to(root).as_posix(): path for path in paths}
        return dict(sorted(named.items(), key=lambda item: (item[0].startswith("resume/"), item[0])))

    def add(self, name: str, content: Mapping[str, object]) -> None:
        """Keeps what is in `content` beside, or instead of, what `name` holds already."""
        with whole(self.folder / f"{name}.json") as file:
            file.write_text(json.dumps({**self.read(name), **content}), encoding="utf-8")

    def remove(self) -> None:
        """Removes all of it."""
        # What says whose it is goes last: whatever stops this, the rest is found again.
        for name in ("end.json", "tags.json", "metrics.jsonl"):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "files", ignore_errors=True)
        shutil.rmtree(self.folder)

    def read(self, name: str) -> dict[str, str]:
        """What `add` kept."""
        try:
            return dict(json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}


@contextmanager
def opened(folder: Path, address: str = "") -> Iterator[Parcel | None]:
    """The parcel in `folder`, for this process and thread alone; None where there is none.

    Args:
        folder: where it lies.
        address: of the store that it is for; given, it is made where there is none.
    """
    while True:
        if address:
            folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            if address:
                continue
            yield None
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Delivered and removed while this waited for the lock?
            if not folder.exists() or not os.path.samestat(os.fstat(descriptor), folder.stat()):
                continue
            if address:
                with whole(folder / "store") as file:
                    file.write_text(address, encoding="utf-8")
            yield Parcel(folder)
            return
        finally:
            os.close(descriptor)


class Outbox:
    """What this process kept, since its store could not take it, and has still to deliver."""

    def __init__(self, store: "Store", say: Callable[[str], None]):
        self.folder, self.store, self.say = store.home.store / "outbox", store, say
        # The thread that writes metrics and the one that trains share it.
        self._lock = threading.RLock()
        self._kept: set[str] = set()
        self._delivered = Delivered()
        self._backoff: Iterator[float] | None = None
        self._next = 0.0

    def send(self, run_id: str, write: Callable[[], object], keep: Callable[[Parcel], None]) -> None:
        """Has the store take something of a run, or keeps it until the store can.

        Args:
            run_id: the run.
            write: has the store take it; may be called although the store took some of it, or all, before.
            keep: puts it where it waits.
        """
        with self._lock:
            if time.monotonic() < self._next or not self._is_taken(write):
                with opened(self.folder / run_id, masked(self.store.uri)) as parcel:
                    assert parcel
                    keep(parcel)
                self._kept.add(run_id)

    def _is_taken(self, write: Callable[[], object]) -> bool:
        try:
            with at_once():
                self.empty()
                write()
        except Exception as error:
            if not is_passing(error):
                raise
            self._went_away(error)
            return False
        self._backoff, self._next = None, 0.0
        return True

    def empty(self) -> None:
        """Delivers what this process kept; raises what the store does."""
        with self._lock:
            for run_id in sorted(self._kept):
                with opened(self.folder / run_id) as parcel:
                    # Another process may have been first.
                    if parcel:
                        _deliver_or_say(self.store, run_id, parcel, self._delivered)
                self._kept.discard(run_id)
            if self._delivered.runs:
                self.say(f"{masked(self.store.uri)} answers again: delivered {self._delivered}.")
                self._delivered = Delivered()

    def _went_away(self, error: Exception) -> None:
        if self._backoff is None:
            self._backoff = backoff()
            self.say(
                f"{told(error, self.store.uri)}: the work goes on, and what cannot be recorded is kept in "
                f"{self.folder} until it can."
            )
        self._next = time.monotonic() + next(self._backoff)


def deliver(store: "Store", home: Home) -> Delivered:
    """Delivers to `store` what any process kept for it in `home`, each value and file once.

    What the store refuses, of a run that was deleted for instance, stays where it is, and is said.

    Raises:
        StoreFault: where the store is away for too long.
    """
    delivered = Delivered()
    store.wait(lambda: _deliver_all(store, home, delivered))
    return delivered


def _deliver_all(store: "Store", home: Home, delivered: Delivered) -> None:
    for folder in sorted((home.store / "outbox").glob("*")):
        if not folder.is_dir():
            continue
        with opened(folder) as parcel:
            if parcel and not any(folder.iterdir()):
                # Left by a process that was killed while it made or removed it.
                folder.rmdir()
            elif parcel and _is_for(parcel, store):
                _deliver_or_say(store, folder.name, parcel, delivered)


def _deliver_or_say(store: "Store", run_id: str, parcel: Parcel, delivered: Delivered) -> None:
    """Delivers a parcel; what the store refuses, of a run that was deleted for instance, stays, and keeps no other."""
    try:
        _deliver(store, run_id, parcel, delivered)
    except Exception as error:
        if is_passing(error) or isinstance(error, StoreFault):
            raise
        show_if_debugging(error)
        store.say(f"What is kept in {parcel.folder} cannot be delivered ({first_line(error)}): it stays there.")


def _is_for(parcel: Parcel, store: "Store") -> bool:
    """Whether a parcel is for `store`, also where that is now reached by another address."""
    with suppress(FileNotFoundError):
        if (parcel.folder / "store").read_text(encoding="utf-8") == masked(store.uri):
            return True
        try:
            # No two runs have the same id.
            return bool(store.get(parcel.folder.name).id)
        except Exception as error:
            if is_passing(error) or isinstance(error, StoreFault):
                raise
    return False


def _deliver(store: "Store", run_id: str, parcel: Parcel, delivered: Delivered) -> None:
    """Delivers a parcel and removes it. What fails halfway stays, and is delivered again as a whole or found there."""
    tags, end = parcel.read("tags"), parcel.read("end")
    # Its training was continued from elsewhere, and is over: nothing that it has now is older than this.
    is_late = end.get("status", "FINISHED") != "FINISHED" and store.get(run_id).status == "FINISHED"
    for path, file in ({} if is_late else parcel.files()).items():
        store.put_file(run_id, path, file)
        file.unlink()
        delivered.files += 1
    # A request without an answer may have been heard.
    recorded = store.recorded(run_id, {point.name for point in parcel.points()})
    missing = {(point.name, point.step): point for point in parcel.points()}
    new = [point for key, point in missing.items() if key not in recorded]
    store.put_points(run_id, new)
    delivered.values += len(new)
    if tags and not is_late:
        store.put_tags(run_id, tags)
    if end and not is_late:
        store.put_end(run_id, end["status"], int(end["time"]))
    delivered.runs += 1
    parcel.remove()
