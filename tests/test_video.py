"""Videos in, videos and masks out: read back by PyAV alone, whose times and pictures decide."""

import os
import signal
import struct
import sys
import tracemalloc
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from labelled import small_network
from PIL import Image

import main as program
from model import save_model
from seg import folds, report
from seg.classes import CAMVID
from seg.files import InputError
from seg.masks import overlay_of
from seg.predict import Painted, job_of, paint
from seg.scenes import draw_scene
from seg.settings import Settings
from seg.sources import find_videos

av = pytest.importorskip('av')
from seg import video  # noqa: E402

SIZE = (48, 64)
BASE, STEP = Fraction(1, 30000), Fraction(1001, 30000)
TIMES = [i * STEP for i in range(12)]


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """A network that paints by colour; its file is opened once for all."""
    model = small_network(3, 13)
    model.file = tmp_path_factory.mktemp('model') / 'm.hdf5'
    save_model(model, model.file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folds, 'load_models', cache(folds.load_models))
        yield model


def moving(count, size=SIZE):
    """Frames: a window that slides over a wider scene."""
    scene = draw_scene(5, (size[0] * 2, size[1] * 2))[0]
    return [scene[i : i + size[0], 2 * i : 2 * i + size[1]] for i in range(count)]


def write(path, frames, times=TIMES, base=BASE, codec='libx264', pixels='yuv420p', **options):
    with av.open(str(path), 'w', **options) as out:
        stream = out.add_stream(codec, rate=Fraction(30000, 1001))
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], pixels
        stream.codec_context.time_base = base
        for image, time in zip(frames, times):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), 'rgb24')
            frame.pts, frame.time_base = round(time / base), base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def silence(begin):
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), 's16', 'mono')
    frame.sample_rate, frame.pts = 8000, begin
    return frame


def as_fraction(number):
    return Fraction(number.numerator, number.denominator)


def read(path):
    """([time of each frame], [frames], stream facts) of a video."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        frames = [*file.decode(stream)]
        about = stream.average_rate, stream.codec_context.sample_aspect_ratio, file.metadata
        images = [frame.to_ndarray(format='rgb24') for frame in frames]
        return [frame.pts * as_fraction(frame.time_base) for frame in frames], images, about


def samples(path):
    """How many samples an MP4 says that it has, from its bytes alone."""
    data = path.read_bytes()
    place = data.index(b'stsz')
    return struct.unpack('>I', data[place + 12 : place + 16])[0]


def predict(model, *words):
    return program.main(['predict', *map(str, words), '--model', str(model.file)])


def one_line(capsys):
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and 'Traceback' not in lines[0], lines
    return lines[0]


def shown(model, images):
    """The overlays that frames should become."""
    jobs = [job_of(model, f'{i}.png', Image.fromarray(image)) for i, image in enumerate(images)]
    overlays = [overlay_of(p.image, p.index, CAMVID) for p in paint(model, jobs)]
    return [np.vstack([o, report.legend(CAMVID, o.shape[1])]) for o in overlays]


def apart(a, b):
    return np.abs(a.astype(int) - b).mean()


def same_in_order(images, overlays):
    """Each is the one wanted in its place, as far as the encoder keeps it, and no other."""
    for i, overlay in enumerate(overlays):
        h, w = overlay.shape[:2]
        distances = [apart(image[:h, :w], overlay) for image in images]
        assert distances[i] < 7 and int(np.argmin(distances)) == i


def test_a_video_becomes_a_video_of_overlays(model, here, capsys, monkeypatch):
    source, target = write(here / 'street.mp4', moving(12)), here / 'predicted/m/street.mp4'
    seen = []

    def spy(self, *error, call=video.Film.__exit__):
        call(self, *error)
        seen.extend([self.path.exists(), target.exists()])

    monkeypatch.setattr(video.Film, '__exit__', spy)
    assert predict(model, source) == 0
    out = capsys.readouterr().out
    assert '12 frames in predicted/m/street.mp4, ' in out and ' frames/s' in out
    assert seen == [True, False]  # it gets its name when it is whole
    assert [p.name for p in target.parent.iterdir()] == ['street.mp4']
    (times, images, about), (wanted, frames, before) = read(target), read(source)
    assert times == wanted == TIMES and samples(target) == 12
    assert about[0] == before[0] == Fraction(30000, 1001)
    assert all(side % 2 == 0 for side in images[0].shape[:2])
    same_in_order(images, shown(model, frames))


def test_masks_of_frames_are_those_of_pictures(model, here):
    source = write(here / 'v.mkv', moving(5), codec='ffv1', pixels='bgr0')
    for i, frame in enumerate(read(source)[1], 1):
        (here / 'frames').mkdir(exist_ok=True)
        Image.fromarray(frame).save(here / f'frames/v-{i:06}.png')
    save = '--save', 'colour,index,probability,objects'
    assert predict(model, source, *save) == 0
    assert predict(model, 'frames', *save, '--output', 'pictures') == 0
    made = here / 'predicted/m/v'
    assert not (here / 'predicted/m/v.mp4').exists()
    for kind in ('', 'index/'):
        for i in range(1, 6):
            pair = [here / folder / f'{kind}v-{i:06}.png' for folder in (made, 'pictures')]
            assert (np.asarray(Image.open(pair[0])) == np.asarray(Image.open(pair[1]))).all()
    assert (made / 'objects.csv').read_text() == (here / 'pictures/objects.csv').read_text()
    with np.load(made / 'probability/v-000003.npz') as held:
        assert held['probability'].shape == (*SIZE, 13)


def test_each_frame_keeps_its_time(model, here):
    """A variable rate, from other than zero on."""
    times = [Fraction(n, 1000) for n in (400, 433, 500, 501, 900, 2900)]
    source = write(here / 'v.mkv', moving(6), times, Fraction(1, 1000))
    assert predict(model, source) == 0
    assert read(here / 'predicted/m/v.mp4')[0] == [time - times[0] for time in times]


@pytest.mark.parametrize('size', [(45, 63), (49, 64), (48, 101)])
def test_odd_sizes(model, here, size):
    source = write(here / 'v.avi', moving(3, size), base=STEP, codec='ffv1', pixels='bgr0')
    assert predict(model, source) == 0
    images, wanted = read(here / 'predicted/m/v.mp4')[1], shown(model, moving(3, size))
    h, w = wanted[0].shape[:2]
    assert images[0].shape[:2] == (h + h % 2, w + w % 2)
    assert apart(images[2][:h, :w], wanted[2]) < 7


TURNS = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)]
TURNS += [(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)]


@pytest.mark.parametrize('turn', TURNS)
def test_a_display_matrix_moves_each_pixel(turn):
    a, b, c, d = turn
    image = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    places = {(a * x + c * y, b * x + d * y): image[y, x, 0] for y in range(2) for x in range(3)}
    left, top = (min(place[i] for place in places) for i in (0, 1))
    matrix = np.int32([a, b, 0, c, d, 0, 0, 0, 1]) * 65536
    found = video.upright(image, matrix)
    assert found.size == 6 and found.flags.c_contiguous
    for (x, y), value in places.items():
        assert found[y - top, x - left, 0] == value


def test_a_turned_video_is_painted_upright(model, here):
    source = write(here / 'v.mp4', moving(3))
    data = bytearray(source.read_bytes())
    place = data.index(b'tkhd') + 44
    data[place : place + 36] = struct.pack('>9i', 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    (here / 'turned.mp4').write_bytes(data)
    assert predict(model, 'turned.mp4') == 0
    images = read(here / 'predicted/m/turned.mp4')[1]
    wanted = shown(model, [np.rot90(image, -1) for image in read(source)[1]])  # clockwise
    h, w = wanted[0].shape[:2]
    assert w == SIZE[0] and apart(images[2][:h, :w], wanted[2]) < 7


def test_pixels_that_are_no_squares_stay_so(model, here):
    with av.open('v.mp4', 'w') as out:
        stream = out.add_stream('libx264', rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for image in moving(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image.copy(), 'rgb24')))
        out.mux(stream.encode(None))
    assert predict(model, 'v.mp4') == 0
    assert read(here / 'predicted/m/v.mp4')[2][1] == Fraction(4, 3)


@pytest.mark.parametrize('longer', [3, 12])
def test_sound_is_left_out_and_that_is_said(model, here, capsys, longer):
    """It may last longer than the pictures, of which nothing is missing then."""
    with av.open('v.mkv', 'w') as out:
        stream, sound = out.add_stream('mjpeg', rate=10), out.add_stream('flac', rate=8000)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuvj420p'
        sound.layout = 'mono'
        for image in moving(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image.copy(), 'rgb24')))
        for i in range(longer):
            out.mux(sound.encode(silence(800 * i)))
        out.mux([*stream.encode(None), *sound.encode(None)])
    assert predict(model, 'v.mkv') == 0
    assert '3 frames in predicted/m/v.mp4, without its sound' in capsys.readouterr().out


def test_masks_of_two_videos_of_one_name_lie_apart(model, here, capsys):
    for folder, count in (('a', 5), ('b', 3)):
        Path(folder).mkdir()
        write(here / folder / 'v.mkv', moving(count), base=STEP)
        assert predict(model, f'{folder}/v.mkv', '--save', 'index') == 0
    found = {p.parent.relative_to('predicted/m') for p in Path('predicted/m').rglob('*.png')}
    assert len(found) == 2
    assert sorted(len([*Path('predicted/m', f).glob('*.png')]) for f in found) == [3, 5]
    capsys.readouterr()
    assert predict(model, 'a/v.mkv', '--fps', '5') == 2
    assert 'a/v.mkv has its own rate' in one_line(capsys)


@pytest.mark.parametrize('name', ['v.mp4', 'v.mkv', 'v.avi'])
def test_of_a_video_that_breaks_off_the_rest_is_kept(model, here, capsys, name):
    frames = [np.random.default_rng(i).integers(0, 256, (*SIZE, 3), np.uint8) for i in range(12)]
    options = {'options': {'movflags': 'faststart'}} if name == 'v.mp4' else {'base': STEP}
    source = write(here / name, frames, codec='mjpeg', pixels='yuvj420p', **options)
    whole = read(source)[0]
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 6 // 10])
    assert predict(model, source) == 2
    line = one_line(capsys)
    times = read(here / 'predicted/m/v.mp4')[0]
    assert 3 <= len(times) < 12 and times == whole[: len(times)]
    assert f'{source}: damaged, {len(times)}' in line and 'predicted/m/v.mp4 has them' in line


def test_damage_in_the_middle_is_said_and_the_rest_painted(model, here, capsys):
    frames = [np.random.default_rng(i).integers(0, 256, (*SIZE, 3), np.uint8) for i in range(12)]
    source = write(here / 'v.mov', frames, codec='png', pixels='rgb24')
    data = bytearray(source.read_bytes())
    middle = data.index(b'IHDR', len(data) // 2)
    data[middle : middle + 60] = bytes(60)
    source.write_bytes(data)
    assert predict(model, source) == 2
    assert 'v.mov: damaged, 11 of 12 frames' in one_line(capsys)
    assert len(read(here / 'predicted/m/v.mp4')[0]) == 11


def test_what_is_no_video_is_one_line(model, here, capsys, monkeypatch):
    (here / 'text.mp4').write_text('no video')
    write(here / 'v.mkv', moving(3))
    (here / 'list.mp4').write_text('ffconcat version 1.0\nfile v.mkv\n')
    with av.open('sound.mkv', 'w') as out:
        sound = out.add_stream('flac', rate=8000)
        sound.layout = 'mono'
        out.mux([*sound.encode(silence(0)), *sound.encode(None)])
    monkeypatch.setitem(video.CAMERAS, sys.platform, ('v4l2', '/dev/none{}', {}))
    for word, said in (
        ('text.mp4', 'cannot be read as a video'),
        ('list.mp4', 'cannot be read as a video'),  # it would open another file
        ('sound.mkv', 'found no pictures in it'),
        ('missing.mp4', 'expected a video, found nothing'),
        ('7', 'camera 7: cannot be read'),
    ):
        assert predict(model, word) == 2
        line = one_line(capsys)
        assert word in line and said in line
    assert not (here / 'predicted').exists()


def test_without_pyav_one_line_names_the_command(model, here, capsys, monkeypatch):
    write(here / 'v.mp4', moving(3))
    monkeypatch.setitem(sys.modules, 'av', None)
    monkeypatch.delitem(sys.modules, 'seg.video')
    assert predict(model, 'v.mp4') == 2
    assert 'pip install av' in one_line(capsys)


def test_no_file_of_somebody_else_is_replaced(model, here, capsys):
    for folder in ('a', 'b', 'predicted/m'):
        (here / folder).mkdir(parents=True)
    one = write(here / 'a/v.mp4', moving(3))
    two = write(here / 'b/v.mp4', moving(4))
    theirs, ours = write(here / 'predicted/m/v.mp4', moving(2)), here / 'predicted/m/v-2.mp4'
    before = theirs.read_bytes()
    assert predict(model, one) == 2
    assert 'did not write it' in one_line(capsys) and theirs.read_bytes() == before
    assert predict(model, one, '--output', 'a') == 2 and len(read(one)[0]) == 3
    capsys.readouterr()
    theirs.unlink()
    for _ in range(2):  # painted again, each finds its own
        assert predict(model, one) == predict(model, two) == 0
        assert [len(read(path)[0]) for path in (theirs, ours)] == [3, 4]
    assert len([*theirs.parent.iterdir()]) == 2


def interrupt_at(monkeypatch, count):
    calls = []

    def call(self, painted, call=video.Film.__call__):
        call(self, painted)
        calls.append(painted)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(video.Film, '__call__', call)


def test_ctrl_c_leaves_a_video_that_plays(model, here, capsys, monkeypatch):
    times = [i * Fraction(1, 10) for i in range(40)]
    source = write(here / 'v.mp4', moving(20) * 2, times)
    interrupt_at(monkeypatch, 3)
    assert predict(model, source) == 130
    seen = read(here / 'predicted/m/v.mp4')[0]
    assert 3 <= len(seen) < 20 and seen == times[: len(seen)]
    said = capsys.readouterr()
    assert f'{len(seen)} frames in' in said.out and 'stopped' in said.err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_camera_records_until_ctrl_c(model, here, capsys, monkeypatch):
    """A test pattern without an end in its place."""
    pattern = 'lavfi', 'testsrc=size=64x48:rate=10', {}
    monkeypatch.setitem(video.CAMERAS, sys.platform, pattern)
    interrupt_at(monkeypatch, 4)
    assert predict(model, '0') == 0
    (made,) = (here / 'predicted/m').iterdir()
    times = read(made)[0]
    assert made.name.startswith('camera0-') and times == [
        Fraction(i, 10) for i in range(len(times))
    ]
    assert 4 <= len(times) < 20


def test_pictures_are_frames_in_the_order_of_their_numbers(model, here, capsys):
    (here / 'frames').mkdir()
    frames = moving(11)
    for i, frame in enumerate(frames, 1):
        Image.fromarray(frame).save(here / f'frames/f{i}.png')
    assert predict(model, 'frames', '--fps', '12.5', '--save', 'overlay,index') == 0
    times, images, about = read(here / 'predicted/m/frames.mp4')
    assert times == [i * Fraction(2, 25) for i in range(11)] and about[0] == Fraction(25, 2)
    assert len([*(here / 'predicted/m/frames/index').iterdir()]) == 11
    same_in_order(images, shown(model, frames))
    Image.fromarray(frames[0][1:]).save(here / 'frames/f12.png')
    assert predict(model, 'frames', '--fps', '5') == 2
    assert 'f12.png: expected 48x64 pixels as of f1.png, found 47x64' in one_line(capsys)


def test_what_is_named_falls_into_videos_and_pictures(here):
    for name in ('both/a.mp4', 'both/a.png', 'films/b.MKV', 'films/.c.mp4', 'pictures/a.jpg'):
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).touch()
    found = find_videos(['both', 'films', 'pictures', 'both/*', 'f*/*.MKV', '0', 'both/a.mp4'])
    videos, others = found
    assert [str(v) for v in videos] == ['both/a.mp4', 'films/b.MKV', '0']
    assert [str(other) for other in others] == ['both', 'pictures', 'both/*']
    (here / '3').mkdir()
    assert find_videos(['3', '2024']) == ([], [*map(type(others[0]), ['3', '2024'])])


def test_memory_does_not_grow_with_the_length(model, here):
    frames, held = moving(10), {}
    for count in (10, 20, 120):  # the first warms up
        name = write(here / f'{count}.mkv', frames * (count // 10), [*range(count)], Fraction(1))
        films = video.Films(model, [name], here / 'out', Settings(save=('overlay', 'index')))
        tracemalloc.start()
        films.paint()
        held[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(read(here / f'out/{count}.mp4')[0]) == count
    assert held[120] < held[20] + 5e5


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no full disk at hand')
def test_a_full_disk_is_one_line(model):
    reel = SimpleNamespace(base=BASE, rate=Fraction(30), ratio=1, file=Settings.model)
    reel.file = model.file
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    index = np.zeros((480, 640), np.uint8)
    with pytest.raises(InputError, match='the disk is full'):
        with video.Film(model.file.parent / 'x.mp4', reel, CAMVID, Settings()) as film:
            film.path = '/dev/full'
            for i in range(3):
                film(Painted(job_of(model, 'x')._replace(time=Fraction(i)), image, None, index))


def test_the_fallback_encoder(model, here, monkeypatch):
    monkeypatch.setattr(video, 'ENCODERS', {'none': {}, 'mpeg4': {}})
    times = [Fraction(n, 90000) for n in (0, 3003, 9009)]
    source = write(here / 'v.mp4', moving(3), times, Fraction(1, 90000))
    assert predict(model, source) == 0
    assert np.abs(np.float64(read(here / 'predicted/m/v.mp4')[0]) - np.float64(times)).max() < 2e-5
