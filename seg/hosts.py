"""Several machines: how their processes find one another, what they share, and that all of them end
where one does. The same command runs on each:

    KERAS_BACKEND=jax python main.py train --hosts 10.0.0.1,10.0.0.2

The first is process 0, which decides, tells and writes. It listens at a port (8476, or as in
--hosts 10.0.0.1:5000,10.0.0.2), and jax at the one above.
"""

import importlib.util
import json
import os
import re
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from seg.files import InputError
from seg.settings import Settings

PORT, WAIT = 8476, 300  # seconds in which all processes have to come
MARK = 'main.py --hosts'  # with which they greet, so that nobody else is taken for one
joined = None  # the Hosts of which this process is one


def find(flags):
    """Hosts of --hosts and --process, which are taken out of flags, or of the variables that Keras
    knows for it; None without. InputError for what can not be."""
    given, said, env = flags.pop('hosts', None), flags.pop('process', None), os.environ.get
    text = given or env('KERAS_DISTRIBUTION_JOB_ADDRESSES')
    if not text:
        if said is not None:
            raise InputError(f'--process {said}: expected --hosts beside it, all machines by name')
        return None
    names = [name.strip() for name in text.split(',')]
    number, place = (env(f'KERAS_DISTRIBUTION_{what}') for what in ('NUM_PROCESSES', 'PROCESS_ID'))
    number, place = (None, None) if given else (number, place)
    for value in filter(None, (number, place)):
        if not value.isdecimal():
            raise InputError(f'KERAS_DISTRIBUTION_...: expected a number, found {value!r}')
    names += ['?'] * (int(number or 0) - len(names))  # the first is enough for jax, and so here
    said = int(place) if said is None and place else said
    wrong = [name for name in names if not re.fullmatch(r'[\w.-]+(:\d{1,5})?|\?', name)]
    if wrong or len(names) < 2:
        wanted = 'expected two machines or more, each as NAME or NAME:PORT, the same list on each'
        raise InputError(f'--hosts {text}: {wanted}')
    if os.environ['KERAS_BACKEND'] != 'jax':
        found = f'--hosts: {os.environ["KERAS_BACKEND"]} trains on one machine only'
        raise InputError(f'{found}; on several jax does: KERAS_BACKEND=jax python main.py ...')
    if not importlib.util.find_spec('jax'):
        raise InputError('--hosts: jax is not installed; pip install jax, or "jax[cuda13]"')
    if said is None:
        ours = [i for i, name in enumerate(names) if _is_here(name)]
        said = ours[0] if len(ours) == 1 else None
    if said not in range(len(names)):
        which = f'--process {said} of {len(names)}' if said is not None else '--process'
        found = f'{which}: expected which of {text} this machine is, 0 to {len(names) - 1}'
        raise InputError(f'{found}; say --process 0 on the first')
    return Hosts(names, said)


def _is_here(name):
    """Whether this machine has that address."""
    with suppress(OSError, UnicodeError), socket.socket() as s:
        s.bind((socket.gethostbyname(name.partition(':')[0]), 0))
        return True
    return False


class Hosts:
    """The processes of a training, by the names of their machines, and which of them this is."""

    def __init__(self, names, rank):
        self.names, self.rank, self.count, self.peers = names, rank, len(names), {}
        self.host, _, port = names[0].partition(':')
        self.port = int(port or PORT)

    def begin(self, run, settings):
        """(run folder or None, Settings) of process 0, for all; of the others none are asked."""
        if settings and settings.folds:
            line = 'expected one of them; train each fold on a machine of its own with --fold'
            raise InputError(f'--hosts and --folds: {line}')
        run, kept = self.meet(settings and [run and str(run), asdict(settings)])
        return run and Path(run), settings or settings_of(kept)

    def meet(self, said=None):
        """Wait until all processes are there; returns what process 0 has `said`, JSON. From then on
        each of them ends where another does. InputError where one does not come."""
        global joined
        end = time.monotonic() + WAIT
        if self.rank:
            said = self._knock(end)
            print(
                f'Process {self.rank} of {self.count}: process 0, on {self.host}, tells and writes'
            )
            sys.stdout = open(os.devnull, 'w')
        else:
            self._welcome(said, end)
        for rank, (peer, file) in self.peers.items():
            peer.settimeout(None)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, seconds in dict(TCP_KEEPIDLE=20, TCP_KEEPINTVL=5, TCP_KEEPCNT=4).items():
                if hasattr(socket, name):  # of a machine that has gone
                    peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)
            threading.Thread(target=self._watch, args=(rank, file), daemon=True).start()
        joined = self
        return said

    def _welcome(self, said, end):
        try:
            server = socket.create_server(('', self.port))
        except OSError as e:
            found = f'--hosts: port {self.port} cannot be listened at ({e.strerror})'
            raise InputError(f'{found}; name another: --hosts {self.host}:PORT,...') from None
        with server:
            print(f'Process 0 of {self.count} waits for the others')
            while missing := {*range(1, self.count)} - {*self.peers}:
                server.settimeout(max(end - time.monotonic(), 0.01))
                try:
                    peer, _ = server.accept()
                except TimeoutError:
                    who = ', '.join(f'process {i} ({self.names[i]})' for i in sorted(missing))
                    line = f'--hosts: {who} has not come in {WAIT} seconds; start the same command'
                    raise InputError(f'{line} there') from None
                peer.settimeout(5)
                file, hello = peer.makefile('rb'), None
                with suppress(OSError, ValueError):
                    hello = json.loads(file.readline(200))
                fits = isinstance(hello, list) and hello[:2] == [MARK, self.count]
                if fits and hello[2] in missing:
                    self.peers[hello[2]] = peer, file
                else:
                    file.close()
                    peer.close()
        for peer, _ in self.peers.values():
            with suppress(OSError):  # who has gone meanwhile is missed at once
                peer.sendall(json.dumps(said).encode() + b'\n')

    def _knock(self, end):
        where = f'--hosts: process 0 ({self.host}:{self.port})'
        while not self.peers:
            try:
                peer = socket.create_connection((self.host, self.port), timeout=5)
                self.peers[0] = peer, peer.makefile('rb')
            except OSError as e:
                if time.monotonic() > end:
                    why = e.strerror or e
                    mend = f'start the same command there, and open ports {self.port} and the next'
                    raise InputError(
                        f'{where} does not answer in {WAIT} seconds ({why}); {mend}'
                    ) from None
                time.sleep(0.5)
        try:
            peer.sendall(json.dumps([MARK, self.count, self.rank]).encode() + b'\n')
            peer.settimeout(WAIT + 10)  # until the others have come
            return json.loads(self.peers[0][1].readline())
        except (OSError, ValueError):
            why = f'another is process {self.rank} of {self.count}, it names other machines, or it'
            raise InputError(f'{where} does not take this one: {why} has ended') from None

    def _watch(self, rank, file):
        """End this process when another has gone: a sum over both would wait for ever."""
        word = b''
        with suppress(OSError):
            word = file.readline(9)
        if not word:
            who = f'process {rank} ({self.names[rank]}) has ended or cannot be reached'
            mend = 'fix what it says there, then start all again with --resume'
            print(f'\nmain.py: {who}, so this one ends too; {mend}', file=sys.stderr, flush=True)
            os._exit(2)

    def start(self, devices):
        """Let jax know of the others, before it does anything else."""
        import jax

        if not jax.distributed.is_initialized():
            where = f'{self.host}:{self.port + 1}', self.count, self.rank
            try:
                jax.distributed.initialize(*where, range(devices), initialization_timeout=60)
            except Exception as e:
                why = ' '.join(str(e).split())[:150]
                raise InputError(f'--hosts: jax does not start at {where[0]} ({why})') from None

    def leave(self):
        """The training is over: nobody waits for the others any more."""
        import jax

        for peer, _ in self.peers.values():
            with suppress(OSError):
                peer.sendall(b'done\n')
        jax.distributed.shutdown()


def settings_of(kept):
    """Settings that have been JSON."""
    return Settings(**{k: tuple(v) if isinstance(v, list) else v for k, v in kept.items()})


def rank():
    """Which process of a training this is; 0 where it is the only one."""
    return joined.rank if joined else 0


def count():
    return joined.count if joined else 1


def gathered(array):
    """[what each process has in its place]: NumPy arrays of one shape and type."""
    import numpy as np  # here: --help answers without it

    array = np.asarray(array, order='C')
    if not joined:
        return [array]
    from jax.experimental.multihost_utils import process_allgather

    parts = process_allgather(array.reshape(-1).view(np.uint8))  # jax halves numbers of 64 bits
    return [part.view(array.dtype).reshape(array.shape) for part in parts]


def agreed(number):
    """What process 0 says a number is; of a clock's, which no two have alike."""
    return float(gathered(float(number))[0]) if joined else number


def told(data):
    """Bytes of process 0, for all."""
    if not joined:
        return data
    import numpy as np
    from jax.experimental.multihost_utils import broadcast_one_to_all

    size = int(agreed(len(data)))
    own = np.frombuffer(data[:size].ljust(size, b'\0'), np.uint8)
    return broadcast_one_to_all(own).tobytes() if size else b''


def told_json(value):
    return json.loads(told(json.dumps(value).encode()))


def same(what, value):
    """InputError where a value is another one than process 0's."""
    if told_json(value) != value:
        found = 'found other files, classes or sizes; copy the data from there'
        raise InputError(f'{what}: expected what process 0 has, {found}')


def told_file(path):
    """A file of process 0's, for all: its path or what is in it; None where there is none."""
    there = os.path.lexists(path)
    if not joined:
        return path if there else None
    data = told(Path(path).read_bytes() if there and not joined.rank else b'')
    return data or None
