"""One TensorFlow start for all tests, and one small drawn data set."""

import os
import sys

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
for kind in ('INTRAOP', 'INTEROP'):  # a core for each of two workers; more threads get in the way
    os.environ.setdefault(f'TF_NUM_{kind}_THREADS', '1')

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items):
    if tf := sys.modules.get('tensorflow'):  # two parts of the processor stand in for devices
        (cpu,), part = (
            tf.config.list_physical_devices('CPU'),
            tf.config.LogicalDeviceConfiguration(),
        )
        tf.config.set_logical_device_configuration(cpu, [part, part])
    for name, why in (('CAMVID', 'CAMVID names no folder'), ('SLOW', 'SLOW=1 runs it')):
        for item in items if not os.environ.get(name) else ():
            if name.lower() in item.keywords:
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope='session')
def camvid():
    """The real data's folder."""
    return Path(os.environ['CAMVID'])


@pytest.fixture(scope='session')
def drawn(tmp_path_factory):
    """A folder of drawn scenes of 48x64 in CamVid's layout: 8 train, 3 val, 3 test. Read only."""
    from seg.scenes import draw_camvid

    folder = tmp_path_factory.mktemp('data') / 'drawn'
    draw_camvid(folder, train=8, val=3, test=3, size=(48, 64), seed=0)
    return folder


@pytest.fixture(scope='session')
def browser(tmp_path_factory):
    """A headless Chromium; skips where there is none."""
    from browser import CHROMIUM, Browser

    if not CHROMIUM:
        pytest.skip('chromium is not installed')
    opened = Browser(tmp_path_factory.mktemp('chromium'))
    yield opened
    opened.close()


@pytest.fixture(scope='module')
def shallow():
    """U-Nets of two levels, for files whose tests are not about the network: to build and trace one
    of five takes most of a tiny training's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('model.LEVELS', 2)
        yield


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder in which the test is."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
