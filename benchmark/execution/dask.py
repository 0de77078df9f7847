"""Tasks on a Dask cluster, through futures of ``distributed.Client``.

A worker process has one task at a time and gives it all its threads, so that a lost process tells which task
was in it: Dask itself blames everything that waited there. A task that lost three processes is given up.

A worker process that holds on to more than its share of memory is started anew between two tasks.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from benchmark.errors import ArgumentError, CacheError, JobError
from benchmark.execution.apart import run_apart
from benchmark.execution.local import LocalRunner
from benchmark.execution.payload import pack, unpack
from benchmark.execution.runner import Call, Describe, Function, Machine, Result, dead, failure
from benchmark.locations import as_given
from benchmark.machine import available_memory, cores
from benchmark.memory import give_back_memory
from benchmark.storage import hand_over, take_back, take_over, temporary_beside, write_whole

if TYPE_CHECKING:
    from distributed import Client, Future

Tell = Callable[[str], None]

_POLL_SECONDS = 0.02
_LOOK_SECONDS = 1.0
_PATIENCE_SECONDS = 60.0
_ANSWER_SECONDS = 15.0
_REST_SECONDS = 30.0
_TRIES = 3
_SPARE = 0.1
_LOCAL = "local:"
_OF_THE_WAY = (asyncio.CancelledError, CancelledError, TimeoutError, OSError)
_SIGN = "seen"  # a file by which a worker knows the folder
# A worker that says nothing for so long is ended, and its task goes elsewhere. Results are small and stay in
# memory; the networks that a task loads are none of Dask's business, and no reason to pause a worker.
_SETTINGS = {
    "distributed.scheduler.worker-ttl": "30s",
    "distributed.scheduler.allowed-failures": _TRIES,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
}


@contextmanager
def dask_runner(cluster: str, shared: Path, describe: Describe, tell: Tell) -> Iterator[DaskRunner]:
    """A runner on a cluster: one that is there, or one of this machine that ends with the context.

    Args:
        cluster: ``tcp://host:8786``, ``tls://host:8786``, or ``local:N`` for N worker processes here.
        shared: folder that all workers see under this name.
        describe: what decides the arithmetic of the machine that it is called on; module-level.
        tell: takes what a reader must know.

    Raises:
        ArgumentError: ``distributed`` is not installed.
        JobError: no scheduler answers, or no worker comes.
    """
    try:
        import dask
        from distributed import Client
    except ImportError as error:
        raise ArgumentError.not_installed("Dask", "dask", where=f"`cluster={cluster}`") from error
    for name in ("distributed", "distributed.client"):  # losses are told in our words
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with dask.config.set(_SETTINGS), _address(cluster) as address:
        try:
            if isinstance(address, str):
                _check_scheduler(address)
            client = Client(address, timeout=_ANSWER_SECONDS, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:  # TypeError: tls:// without certificates
            raise JobError(
                "no Dask scheduler answers",
                where=cluster,
                got=f"{type(error).__name__}: {error}".rstrip(": "),
                next_step="Start one ('dask scheduler'), or mend the address or its certificates.",
            ) from error
        try:
            with _handing_over(shared) as folder:
                yield DaskRunner(client, folder, describe, tell)
        finally:
            with suppress(OSError, TimeoutError):
                client.close(timeout=5)


def _check_scheduler(address: str) -> None:
    """See who answers: a client that began with anybody else could not even be closed.

    Raises:
        OSError: nobody does.
        ValueError: somebody else.
        TypeError: certificates are missing.
    """
    from distributed import Security, rpc

    async def kind() -> str:
        connection = Security().get_connection_args("client")
        async with rpc(address, timeout=_ANSWER_SECONDS, connection_args=connection) as there:
            return str((await asyncio.wait_for(there.identity(), 2 * _ANSWER_SECONDS))["type"])

    with ThreadPoolExecutor(1) as pool:  # this thread's loop may be a notebook's, which runs
        found = pool.submit(asyncio.run, kind()).result()
    if found != "Scheduler":
        raise ValueError(f"a Dask {found.lower()} has this address")


@contextmanager
def _handing_over(shared: Path) -> Iterator[Path]:
    """A folder for what tasks need beside their own bytes; it goes with the run.

    Raises:
        StorageError: it cannot be written.
    """
    folder = temporary_beside(shared.absolute() / "handed")
    try:
        write_whole(folder / _SIGN, b"", root=folder)
        hand_over(folder / _SIGN)
        yield folder
    finally:
        with suppress(CacheError):
            take_back(folder)


@contextmanager
def _address(cluster: str) -> Iterator[Any]:
    if not cluster.startswith(_LOCAL):
        yield cluster
        return
    from distributed import LocalCluster

    count = int(cluster.removeprefix(_LOCAL))
    with (
        tempfile.TemporaryDirectory(prefix="backbones-cluster-") as folder,
        LocalCluster(
            n_workers=count,
            threads_per_worker=max(1, cores() // count),
            host="127.0.0.1",
            dashboard_address=None,
            scheduler_kwargs={
                "dashboard_address": "127.0.0.1:0"
            },  # else port 8787, with a warning where taken
            memory_limit=0,
            local_directory=folder,
            silence_logs=logging.CRITICAL,
        ) as made,
    ):
        yield made


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worker:
    """A worker process.

    Attributes:
        address: of the process.
        threads: for its one task.
        resources: abstract ones, for example ``GPU``.
        machine: what decides its arithmetic.
        nanny: whether another process starts it again when it ends.
        pauses_at: bytes above which Dask has it pause, and take no task; 0 where it never does.
    """

    address: str
    threads: int
    resources: dict[str, float]
    machine: Machine
    nanny: bool
    pauses_at: float

    @property
    def host(self) -> str:
        return self.address.rpartition(":")[0]


def _introduce(payload: bytes) -> tuple[_Worker, float]:
    """What a worker says of itself, and the free bytes of its machine; runs on the worker.

    Raises:
        CacheError: it does not see what all share, so that whatever it did would be in vain.
    """
    from distributed import get_worker

    describe, sign = unpack(payload)
    take_over(sign, most_bytes=0)
    if not sign.exists():
        where = as_given(sign.parents[1])
        raise CacheError("not the folder that the command sees under this name", where=where)
    worker = get_worker()
    memory = worker.memory_manager
    return _Worker(
        address=worker.address,
        threads=worker.state.nthreads,
        resources=dict(worker.state.total_resources),
        machine=describe(),
        nanny=bool(worker.nanny),
        pauses_at=(memory.memory_pause_fraction or 0) * (memory.memory_limit or 0),
    ), float(available_memory())


def _execute(payload: bytes) -> tuple[Result, int]:
    """Run one call; the result, and the bytes that the process holds afterwards. Runs on the worker."""
    import psutil

    function, argument, threads, apart = unpack(payload)
    if apart is None:
        result: Result = function(argument, threads)
    else:
        result = run_apart(function, argument, threads, environment=apart, is_wanted=_is_wanted())
    give_back_memory()
    return result, int(psutil.Process().memory_info().rss)


def _is_wanted() -> Callable[[], bool]:
    """Whether the scheduler still waits for the task that calls this; for other threads, too."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def is_wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state != "cancelled"

    return is_wanted


class DaskRunner:
    """Worker processes of a Dask cluster, of one arithmetic. Workers may join and leave at any time.

    Attributes:
        machine: what decides the arithmetic of the workers that take part; the others stay idle.

    Raises:
        JobError: no worker comes.
    """

    def __init__(self, client: Client, folder: Path, describe: Describe, tell: Tell) -> None:
        self._client = client
        self._folder = folder
        self._describe = describe
        self._tell = tell
        self._known: dict[str, _Worker] = {}
        self._free: dict[str, float] = {}
        self._asked: dict[Future, str] = {}
        self._introduced = self.answers()
        self._resting: dict[str, float] = {}
        self._left_out: set[str] = set()
        self._warned: set[str] = set()
        self._refused: set[str] = set()
        self._looked = self._served = -_PATIENCE_SECONDS
        self.machine: Machine = ()
        self.machine = self._pick()

    def __reduce__(self) -> tuple[object, ...]:
        """What reaches a worker works right there."""
        return LocalRunner, (1,)

    @property
    def is_local(self) -> bool:
        """No: a task reaches shared storage alone."""
        return False

    @property
    def handed_over(self) -> Path:
        """On storage that all share."""
        return self._folder

    @property
    def threads(self) -> int:
        """Of those that take part at the moment."""
        self.look()
        return max(1, sum(one.threads for one in self.able()))

    def computes_as(self, machine: Machine) -> bool:
        """Whether the workers that take part are of a machine's kind."""
        return machine == self.machine

    @property
    def workers(self) -> int:
        """How many take part at the moment."""
        self.look()
        return max(1, len(self.able()))

    def run(
        self,
        function: Function,
        calls: Sequence[Call],
        *,
        at_once: int = 0,
        alone: bool = False,
        apart: Mapping[str, str] | None = None,
    ) -> Generator[tuple[int, Result]]:
        """As ``Runner.run``; ``at_once`` is for machines, which here are the workers' own.

        Raises:
            JobError: the scheduler is gone, or no worker was left for a minute.
        """
        dispatch = _Dispatch(self, function, calls, alone=alone, apart=apart)
        try:
            yield from dispatch.results()
        finally:
            dispatch.cancel()

    # Workers ----------------------------------------------------------------------------------------

    def look(self) -> None:
        """Note who came and who left, once a second.

        Raises:
            JobError: the scheduler is gone.
        """
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        if self._client.status != "running":
            raise _scheduler_lost()
        try:
            present = set(self._client.nthreads(callback_timeout=_PATIENCE_SECONDS))
        except (OSError, TimeoutError) as error:
            raise _scheduler_lost() from error
        for address in self._known.keys() - present:
            del self._known[address]
        for future in [one for one, address in self._asked.items() if address not in present]:
            del self._asked[future]
            self.cancel([future])
        self._refused &= present  # who comes back under the same address is another one
        for address in present - self._known.keys() - {*self._asked.values()} - self._refused:
            payload = self.pack((self._describe, self._folder / _SIGN))
            future = self.submit(_introduce, payload, name="introduce", to=address)
            self._asked[future] = address
            self._introduced.add(future)
        for future, answer in self._introduced.ready():
            if (asked := self._asked.pop(future, None)) is not None:
                self._meet(asked, future, answer)
        if self.able():
            self._served = now

    def _meet(self, address: str, future: Future, answer: Any) -> None:  # noqa: ANN401 - what came of it
        if isinstance(answer, BaseException):
            if _is_lost(future, answer):  # if the worker is there, it is asked again
                self.cancel([future])
            else:
                self._refused.add(address)
                self._tell(f"Worker {address} is left out: {answer}")
            return
        worker, memory = answer
        machine = worker.machine
        self._known[address] = worker
        if worker.pauses_at and worker.host not in self._warned:
            self._warned.add(worker.host)
            self._tell(
                f"Dask pauses worker {address} when it holds more than {worker.pauses_at / 1e9:.1f} GB, and "
                "a paused one takes no task: start it without that limit."
            )
        # A worker that comes later finds its machine at work.
        self._free[worker.host] = max(memory, self._free.get(worker.host, 0.0))
        if self.machine and machine != self.machine and address not in self._left_out:
            self._left_out.add(address)
            difference = _difference(machine, self.machine)
            self._tell(f"Worker {address} computes otherwise ({difference}) and stays idle.")

    def able(self) -> list[_Worker]:
        """Workers that take part."""
        return [one for one in self._known.values() if one.machine == self.machine]

    def idle(self, busy: set[str]) -> list[_Worker]:
        """Workers that could take a task; those that just failed at one only where there are no others."""
        now = time.monotonic()
        rested = [one for one in self.able() if self._resting.get(one.address, 0.0) <= now]
        return [one for one in rested or self.able() if one.address not in busy]

    def room(self, worker: _Worker) -> float:
        """Bytes of memory to share out on a worker's machine."""
        return self._free[worker.host] * (1 - _SPARE)

    def replace(self, worker: _Worker, held: int) -> None:
        """Start an idle worker anew that keeps more than half of its share of memory."""
        here = [one for one in self._known.values() if one.host == worker.host]
        if worker.nanny and held > self.room(worker) / (2 * len(here)):
            self._known.pop(worker.address, None)
            with suppress(OSError, TimeoutError, KeyError):  # it may have left just now
                self._client.restart_workers([worker.address], timeout=30, raise_for_error=False)

    def rest(self, address: str) -> None:
        """Keep a worker that failed at something that others may manage from taking every task in turn."""
        self._resting[address] = time.monotonic() + _REST_SECONDS

    def wait_anew(self) -> None:
        """Begin to wait for somebody who works."""
        self._served = time.monotonic()

    def check_served(self) -> None:
        """See that somebody works.

        Raises:
            JobError: no worker was there for a minute.
        """
        if time.monotonic() - self._served > _PATIENCE_SECONDS:
            raise JobError(
                "the cluster has no worker that can take a task",
                got=f"none for {_PATIENCE_SECONDS:.0f} s",
                next_step="Start workers ('dask worker ADDRESS') that have this package and run the same "
                "command again: what is finished is kept.",
            )

    def _pick(self) -> Machine:
        """The arithmetic of the run: that of GPUs where there are any, else of the most threads."""
        self.wait_anew()
        # Who has not answered by then works for somebody else, and may join later.
        until = time.monotonic() + _PATIENCE_SECONDS / 2
        while not self._known or (self._asked and time.monotonic() < until):
            self.look()
            if not self._known:
                self.check_served()
            time.sleep(_POLL_SECONDS)
        threads: Counter[Machine] = Counter()
        gpus: Counter[Machine] = Counter()
        groups: defaultdict[Machine, list[_Worker]] = defaultdict(list)
        for one in self._known.values():
            groups[one.machine].append(one)
            threads[one.machine] += one.threads
            gpus[one.machine] += int(one.resources.get("GPU", 0))
        chosen = max(groups, key=lambda machine: (gpus[machine], threads[machine], machine))
        for machine, others in groups.items():
            if machine != chosen:
                self._left_out |= {one.address for one in others}
                self._tell(
                    f"{len(others)} of {len(self._known)} workers stay idle, because they compute otherwise "
                    f"({_difference(machine, chosen)}), and embeddings of different arithmetic do not mix."
                )
        return chosen

    # Futures ----------------------------------------------------------------------------------------

    def pack(self, value: object) -> bytes:
        """The bytes of a call."""
        return pack(value, self._folder)

    def submit(self, function: Callable[..., Any], argument: object, *, name: str, to: str) -> Future:
        """A call on one worker.

        Raises:
            JobError: the scheduler is gone.
        """
        if self._client.status != "running":
            raise _scheduler_lost()
        gpu = self._known[to].resources.get("GPU", 0.0) if to in self._known else 0.0
        return self._client.submit(
            function,
            argument,
            key=f"{name}-{secrets.token_hex(8)}",
            workers=[to],
            pure=False,
            resources={"GPU": min(1.0, gpu)} if gpu else None,
        )

    def answers(self) -> _Answers:
        """What fetches the answers of futures."""
        return _Answers(self._client)

    def cancel(self, futures: Sequence[Future]) -> None:
        """Give up futures; what runs already runs to its end, and what it made is kept."""
        if self._client.status == "running":
            with suppress(OSError, TimeoutError):
                self._client.cancel(futures, force=True)


class _Answers:
    """Futures, and what each of them answers when that is here.

    A result whose worker dies before it is fetched may never come: nobody waits for it here. ``look`` notices
    that its worker is gone, and one that cannot be fetched from a living worker is given up.
    """

    def __init__(self, client: Client) -> None:
        from distributed import as_completed

        self._loop = client.loop
        self._done = as_completed(loop=client.loop)
        self._fetched: SimpleQueue[tuple[Future, Any]] = SimpleQueue()

    def add(self, future: Future) -> None:
        """One more."""
        self._done.add(future)

    def is_ready(self) -> bool:
        """Whether any has done."""
        return self._done.has_ready() or not self._fetched.empty()

    def ready(self) -> list[tuple[Future, Any]]:
        """Those that have answered since the last call, with their results, or errors."""
        for future in self._done.next_batch(block=False):
            self._loop.add_callback(self._fetch, future)
        return [self._fetched.get() for _ in range(self._fetched.qsize())]

    async def _fetch(self, future: Future) -> None:
        fetching = future.result(timeout=_PATIENCE_SECONDS)
        answers = await asyncio.gather(fetching, return_exceptions=True)
        self._fetched.put((future, answers[0]))


def _is_lost(future: Future, answer: BaseException) -> bool:
    """Whether it is not the call that failed: its answer got lost on its way."""
    return future.status != "error" and isinstance(answer, _OF_THE_WAY)


@dataclass(frozen=True, slots=True)
class _Flight:
    """A call that is out: which, where, and the memory it may take."""

    position: int
    worker: _Worker
    memory: float


class _Dispatch:
    """The calls of one run: what waits, what is out, what each has cost."""

    def __init__(
        self,
        runner: DaskRunner,
        function: Function,
        calls: Sequence[Call],
        *,
        alone: bool,
        apart: Mapping[str, str] | None,
    ) -> None:
        self._runner = runner
        self._function = function
        self._calls = calls
        self._alone = alone
        self._apart = None if apart is None else dict(apart)
        self._waiting = sorted(range(len(calls)), key=lambda one: -calls[one].cost)
        self._unfinished = set(self._waiting)
        self._out: dict[Future, _Flight] = {}
        self._answers = runner.answers()
        self._tries: Counter[int] = Counter()
        self._losses: Counter[int] = Counter()
        self._avoided: defaultdict[int, set[str]] = defaultdict(set)

    def results(self) -> Iterator[tuple[int, Result]]:
        """(position, result) as they finish."""
        self._runner.wait_anew()
        while self._unfinished:
            self._runner.look()
            for position, result in (*self._landed(), *self._lost()):
                self._unfinished.discard(position)
                yield position, result
                self._runner.wait_anew()  # what the caller did meanwhile was no waiting for workers
            if not self._send() and not self._answers.is_ready():
                if not self._out:
                    self._runner.check_served()
                time.sleep(_POLL_SECONDS)

    def cancel(self) -> None:
        """Cancel what has not finished."""
        self._runner.cancel([*self._out])
        self._out.clear()

    def _send(self) -> bool:
        """Give idle workers something to do; whether anything was sent."""
        sent = False
        for worker in self._runner.idle({flight.worker.address for flight in self._out.values()}):
            if self._alone and self._out:
                break
            position = next((one for one in self._waiting if self._fits(one, worker)), None)
            if position is None:
                continue
            call = self._calls[position]
            threads = 1 if self._alone else worker.threads
            payload = self._runner.pack((self._function, call.argument, threads, self._apart))
            future = self._runner.submit(_execute, payload, name=call.name, to=worker.address)
            self._out[future] = _Flight(position, worker, self._memory(position, worker))
            self._answers.add(future)
            self._waiting.remove(position)
            sent = True
        return sent

    def _fits(self, position: int, worker: _Worker) -> bool:
        """Whether a call may go to a worker now."""
        if self._calls[position].after in self._unfinished:
            return False
        others = {one.address for one in self._runner.able()} - self._avoided[position]
        if others and worker.address in self._avoided[position]:
            return False
        taken = sum(flight.memory for flight in self._out.values() if flight.worker.host == worker.host)
        return not taken or taken + self._memory(position, worker) <= self._runner.room(worker)

    def _memory(self, position: int, worker: _Worker) -> float:
        first, further = self._calls[position].memory
        return first + further * (worker.threads - 1)

    def _lost(self) -> Iterator[tuple[int, Result]]:
        """Calls whose process is gone go elsewhere; those that lost too many are given up."""
        alive = {one.address for one in self._runner.able()}
        for future in [one for one, flight in self._out.items() if flight.worker.address not in alive]:
            flight = self._out.pop(future)
            self._runner.cancel([future])
            yield from self._died(flight.position)

    def _landed(self) -> Iterator[tuple[int, Result]]:
        done: list[tuple[_Worker, int]] = []
        for future, answer in self._answers.ready():
            flight = self._out.pop(future, None)
            if flight is None:  # given up before
                continue
            if isinstance(answer, BaseException) and _is_lost(future, answer):
                self._runner.cancel([future])
                self._runner.look()
                yield from self._died(flight.position)
            elif isinstance(answer, BaseException):
                yield from self._broken(flight, answer)
            else:
                result, held = answer
                done.append((flight.worker, held))
                yield from self._finished(flight, result)
        for worker, held in done:
            self._runner.replace(worker, held)

    def _finished(self, flight: _Flight, result: Result) -> Iterator[tuple[int, Result]]:
        if not result.get("elsewhere"):
            yield flight.position, result
            return
        self._tries[flight.position] += 1
        self._avoided[flight.position].add(flight.worker.address)
        self._runner.rest(flight.worker.address)
        others = {one.address for one in self._runner.able()} - self._avoided[flight.position]
        if self._tries[flight.position] >= _TRIES or not others:
            yield flight.position, _said_by(flight.worker, result)
        else:
            self._waiting.insert(0, flight.position)

    def _broken(self, flight: _Flight, error: BaseException) -> Iterator[tuple[int, Result]]:
        """What a worker could not even begin, or Dask gave up."""
        from distributed import KilledWorker

        if isinstance(error, KilledWorker):
            yield from self._died(flight.position)
        elif type(error) is JobError:  # of a process apart: it died, and its worker did not
            self._avoided[flight.position].add(flight.worker.address)
            told = failure(error)
            last = f"tried {_TRIES} times; the last time on worker {flight.worker.address}: {told['error']}"
            for position, _ in self._died(flight.position):
                yield position, {**told, "error": last}
        else:
            yield from self._finished(flight, {**failure(error), "elsewhere": True})

    def _died(self, position: int) -> Iterator[tuple[int, Result]]:
        self._losses[position] += 1
        if self._losses[position] >= _TRIES:
            yield position, dead()
        else:
            self._waiting.insert(0, position)


def _said_by(worker: _Worker, result: Result) -> Result:
    """A failure that names its worker; of a call for several things, that of each."""
    named = dict(result)
    if "error" in result:
        named["error"] = f"on worker {worker.address}: {result['error']}"
    if "each" in result:
        named["each"] = [_said_by(worker, one) for one in result["each"]]
    return named


def _difference(one: Machine, other: Machine) -> str:
    theirs = dict(other)
    return ", ".join(f"{name} {value}" for name, value in one if theirs.get(name) != value)


def _scheduler_lost() -> JobError:
    return JobError(
        "the Dask scheduler is gone",
        next_step="Start it and its workers, and run the same command again: what is finished is kept.",
    )
