"""Where a network is built and trained: on one device, on several of a machine or of several (see
seg/hosts.py), and in which arithmetic.

    python main.py train --devices 2 --batch-size 8

The batch is that of all devices together, and loss, gradients and batch norm's statistics are of
the whole of it, so that a training is the same on any number of them. TensorFlow takes those of one
machine (tf.distribute.MirroredStrategy), jax those of several too (keras.distribution). Without a
GPU parts of the processor stand in for devices, to try it out.
"""

import os
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import lru_cache

from seg import hosts
from seg.files import InputError

AMPERE = (8, 0)  # compute capability from which on GPUs multiply in bfloat16, and in TF32


def prepare(count):
    """Let the engine find `count` devices, or its share of them, before it starts. Keras on jax has
    the GPUs for itself: TensorFlow, which feeds it, would take their memory."""
    import keras
    import tensorflow as tf

    gpus, on_jax = tf.config.list_physical_devices('GPU'), keras.backend.backend() == 'jax'
    with suppress(RuntimeError):  # it has started: in a notebook, or the tests
        if on_jax or gpus:
            tf.config.set_visible_devices([] if on_jax else gpus[:count], 'GPU')
        elif count > 1:
            parts = [tf.config.LogicalDeviceConfiguration()] * min(count, _cores())
            cpu = tf.config.list_physical_devices('CPU')[0]
            tf.config.set_logical_device_configuration(cpu, parts)
    if on_jax:
        import jax

        with suppress(RuntimeError):
            if count > 1 and 'host_platform_device_count' not in os.environ.get('XLA_FLAGS', ''):
                jax.config.update('jax_num_cpu_devices', min(count, _cores()))
        if hosts.joined:
            hosts.joined.start(count)


def _cores():
    return max(os.cpu_count() or 1, 2)


@dataclass(frozen=True)
class Place:
    """The devices of a training; engine: tf's strategy or Keras' distribution, None of one."""

    count: int = 1
    engine: object = None

    def scope(self):
        """Networks and their optimizers are built in here."""
        return self.engine.scope() if self.engine else nullcontext()

    def running(self):
        """And trained in here: jax asks where, TensorFlow knows it from the network."""
        import keras

        return self.scope() if keras.backend.backend() == 'jax' else nullcontext()


ALONE = Place()


def place(settings):
    """(Place, settings with their arithmetic decided) of a training; says what it takes. InputError
    where the devices are not there, or the batch can not be shared among them."""
    import keras

    on_jax, n = keras.backend.backend() == 'jax', settings.devices
    kind, found, name, capability = (_of_jax if on_jax else _of_tensorflow)()
    if n > len(found):
        what = f'{len(found)} {kind}' + 's' * (len(found) > 1)
        raise InputError(f'--devices {n}: expected 1 to {len(found)}, found {what}')
    count = n * hosts.count()
    if settings.batch_size % count:
        more = -(-settings.batch_size // count) * count
        line = f'expected a multiple of {count}, the devices that share it; take {more}'
        raise InputError(f'--batch-size {settings.batch_size}: {line}')
    half = settings.bfloat16
    settings = replace(settings, bfloat16=capability >= AMPERE if half is None else half)
    if kind == 'GPU':
        how = 'bfloat16' if settings.bfloat16 else 'float32, multiplied as TF32'
        how = how if settings.bfloat16 or capability >= AMPERE else 'float32'
        how += ', --no-bfloat16: float32' if half is None and settings.bfloat16 else ''
        compiled = ', by XLA' if on_jax or count == 1 else ''
        print(f'Trains on {count} x {name} in {how}{compiled}')
        if len(found) > n:
            print(
                f'{len(found)} GPUs are here: --devices {len(found)} shares each batch among them'
            )
    elif n > 1:
        print(f'No GPU: {n} parts of the processor stand in for devices; they are no faster')
    if count > 1:
        print(f'Batches of {settings.batch_size} are shared among {count} devices')
    if count == 1:
        return ALONE, settings
    if not on_jax:
        return Place(count, _mirrored(tuple(found[:n]))), settings
    import jax

    known = [[d for d in jax.devices() if d.process_index == i] for i in range(hosts.count())]
    chosen = [device for own in known for device in own[:n]]
    parallel = keras.distribution.DataParallel(devices=chosen, auto_shard_dataset=False)
    return Place(count, parallel), settings


@lru_cache
def _mirrored(names):
    """One for all trainings of a process: the sums of a second would be taken for the first's."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(names)


def _of_tensorflow():
    """(GPU or processor, devices, name, compute capability) that TensorFlow has."""
    import tensorflow as tf

    gpus, details = tf.config.list_physical_devices('GPU'), {}
    if not gpus:
        found = tf.config.list_logical_devices('CPU')
        return 'processor', [device.name for device in found], '', (0, 0)
    with suppress(Exception):  # of one that is not NVIDIA's
        details = tf.config.experimental.get_device_details(gpus[0])
    name, capability = details.get('device_name', 'GPU'), details.get('compute_capability')
    return 'GPU', [f'GPU:{i}' for i in range(len(gpus))], name, capability or (0, 0)


def _of_jax():
    import jax

    found, capability = jax.local_devices(), (0, 0)
    with suppress(Exception):  # of one that is not NVIDIA's: it has none
        capability = tuple(map(int, found[0].compute_capability.split('.')))
    kind = 'processor' if found[0].platform == 'cpu' else 'GPU'
    return kind, found, found[0].device_kind, capability


def bfloat16_is_fast():
    """Whether the GPU says so; None without one, where only the clock knows."""
    import keras

    kind, *_, capability = (_of_jax if keras.backend.backend() == 'jax' else _of_tensorflow)()
    return capability >= AMPERE if kind == 'GPU' else None


def replicas():
    """Over how many of TensorFlow's devices a loss is summed from in here; jax does it itself."""
    context = _replica()
    return context.num_replicas_in_sync if context else 1


def total(values):
    """The sum of a tensor, or of each of a list, over the devices that share a batch."""
    context = _replica()
    return context.all_reduce('SUM', values) if context else values


def _replica():
    import keras

    if keras.backend.backend() != 'tensorflow':
        return None
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context if context and context.num_replicas_in_sync > 1 else None
