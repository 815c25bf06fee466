"""Stacks, bands, depth, volumes: written by other libraries, read as what was written."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from seg.files import InputError, file_of
from seg.formats import BANDS, MAX_PIXELS, bands_of, open_picture, pages_of
from seg.pictures import Picture, read_image, viewable
from seg.readers import read_raw

H, W = 40, 52  # no side is a number of bands
RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 4096, (5, 4, H, W)).astype(np.uint16)  # pages, bands
BYTES = (DEEP // 16).astype(np.uint8)


def tiff(array, **how):
    return lambda path: tifffile.imwrite(path, array, **how)


def sizes(path):
    with tifffile.TiffWriter(path) as out:
        out.write(BYTES[0, 0])
        out.write(BYTES[0, 0, :30])


def pyramid(path):
    with tifffile.TiffWriter(path) as out:
        out.write(BYTES[0, :3].transpose(1, 2, 0), photometric='rgb', tile=(16, 16))
        out.write(BYTES[0, :3, ::2, ::2].transpose(1, 2, 0), photometric='rgb', subfiletype=1)


def multi(path):
    first, *others = (Image.fromarray(page) for page in BYTES[:, 0])
    first.save(path, save_all=True, append_images=others)


PLANE = dict(photometric='minisblack')
# name: (how it is written, its pictures as (pages, H, W, bands))
TIFFS = {
    'a stack': (tiff(DEEP[:, 0], **PLANE), DEEP[:, :1].transpose(0, 2, 3, 1)),
    "Pillow's stack": (multi, BYTES[:, :1].transpose(0, 2, 3, 1)),
    'bands, one after another': (
        tiff(DEEP[0], planarconfig='separate', **PLANE),
        DEEP[:1].transpose(0, 2, 3, 1),
    ),
    'bands of each pixel': (
        tiff(DEEP[0].transpose(1, 2, 0), planarconfig='contig', **PLANE),
        DEEP[:1].transpose(0, 2, 3, 1),
    ),
    'an array whose rows became pages': (
        tiff(np.concatenate([DEEP[0], DEEP[1, :2]]).transpose(1, 2, 0)),
        np.concatenate([DEEP[0], DEEP[1, :2]]).transpose(1, 2, 0)[None],
    ),
    'a hyperstack of ImageJ': (
        tiff(DEEP, imagej=True, metadata={'axes': 'ZCYX'}),
        DEEP.transpose(0, 2, 3, 1),
    ),
    'an OME stack, channels first': (
        tiff(DEEP.transpose(1, 0, 2, 3), ome=True, metadata={'axes': 'CZYX'}),
        DEEP.transpose(0, 2, 3, 1),
    ),
    'a stack of colours': (
        tiff(BYTES[:, :3].transpose(0, 2, 3, 1), photometric='rgb'),
        BYTES[:, :3].transpose(0, 2, 3, 1),
    ),
    '16 bits a colour': (
        tiff(DEEP[0, :3].transpose(1, 2, 0), photometric='rgb'),
        DEEP[:1, :3].transpose(0, 2, 3, 1),
    ),
    'big-endian': (
        tiff(DEEP[:, :2].transpose(0, 2, 3, 1), byteorder='>', planarconfig='contig', **PLANE),
        DEEP[:, :2].transpose(0, 2, 3, 1),
    ),
    'a pyramid': (pyramid, BYTES[:1, :3].transpose(0, 2, 3, 1)),
}


@pytest.mark.parametrize('name', TIFFS)
@pytest.mark.parametrize('how', [{}, dict(compression='zlib'), dict(compression='lzw'), 'tiles'])
def test_a_tiff_is_what_was_written(tmp_path, name, how, monkeypatch):
    write, expected = TIFFS[name]
    path = tmp_path / 'x.tif'
    if how:
        plain = tifffile.imwrite

        def changed(*args, **kwargs):
            if kwargs.get('imagej') and how != 'tiles':
                return plain(*args, **kwargs)
            tiles = {'tile': (16, 32), 'compression': 'zlib'}
            return plain(*args, **kwargs | (tiles if how == 'tiles' else how))

        monkeypatch.setattr(tifffile, 'imwrite', changed)
        if name == 'a hyperstack of ImageJ' and how == 'tiles' or 'rows' in name:
            pytest.skip('no such file')
    write(path)
    pages = pages_of(path)
    assert len(pages) == len(expected) and all(file_of(p) == path for p in pages)
    assert pages == [path] or [p.stem for p in pages] == [f'x-{i}' for i in range(len(pages))]
    for page, values in zip(pages, expected, strict=True):
        picture = open_picture(page)
        found = np.asarray(picture)
        assert picture.size == (W, H) and (found.reshape(H, W, -1) == values).all()
        assert bands_of(picture)[0] == values.shape[-1]
        channels = values.shape[-1]
        part = Picture(page, channels, (0, 65535))[5:33, 7:50]
        assert (part == read_image(page, channels, (0, 65535))[5:33, 7:50]).all()
        assert (part == values[5:33, 7:50]).all()
        assert viewable(page).shape == (H, W, 3)


def test_fewer_axes_and_odd_ones(tmp_path):
    path = tmp_path / 'x.tif'
    sizes(path)
    with pytest.raises(InputError, match='2 pages of several sizes'):
        open_picture(path)
    tifffile.imwrite(path, np.zeros((H, W), np.complex64))
    with pytest.raises(InputError, match='complex64'):
        open_picture(path)
    tifffile.imwrite(path, np.zeros((17, H, W), np.uint16), planarconfig='separate', **PLANE)
    with pytest.raises(InputError, match=f'17 bands, expected 1 to {BANDS}'):
        open_picture(path)
    tifffile.imwrite(path, np.zeros((17, H, W), np.uint8), **PLANE)
    with pytest.raises(InputError, match='17 pages'):
        open_picture(path)
    for gone in (path / 'x-17.tif', tmp_path / 'none.tif'):
        with pytest.raises(InputError, match='no such file'):
            open_picture(gone)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(InputError, match=r'x\.tif: '):
        np.asarray(open_picture(path))


ARRAYS = {  # of numpy: (array, as pages, H, W, bands)
    'plane': (DEEP[0, 0], DEEP[:1, :1].transpose(0, 2, 3, 1)),
    'bands last': (DEEP[0].transpose(1, 2, 0), DEEP[:1].transpose(0, 2, 3, 1)),
    'pages': (np.repeat(DEEP[:, 0], 4, 0), np.repeat(DEEP[:, :1], 4, 0).transpose(0, 2, 3, 1)),
    'pages of bands': (DEEP.transpose(0, 2, 3, 1), DEEP.transpose(0, 2, 3, 1)),
    'pages of planes': (DEEP, DEEP.transpose(0, 2, 3, 1)),
    'floats': (np.float32(DEEP[0, 0]) - 7, np.float32(DEEP[:1, 0, ..., None]) - 7),
    'truth values': (DEEP[0, 0] > 99, (DEEP[:1, 0, ..., None] > 99)),
}


@pytest.mark.parametrize('name', ARRAYS)
def test_arrays_of_numpy(tmp_path, name):
    array, expected = ARRAYS[name]
    path = tmp_path / 'x.npy'
    np.save(path, array)
    for page, values in zip(pages_of(path), expected, strict=True):
        assert (np.asarray(open_picture(page)).reshape(H, W, -1) == values).all()


def test_an_array_brings_no_code_and_fits_a_picture(tmp_path):
    path = tmp_path / 'x.npy'
    np.save(path, np.array([{'a': 1}]), allow_pickle=True)
    with pytest.raises(InputError, match=r'x\.npy: damaged'):
        open_picture(path)
    np.save(path, np.zeros((2, 3, 20, 20, 20)))
    with pytest.raises(InputError, match='an array of 2x3x20x20x20'):
        open_picture(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r'x\.npy: '):
        open_picture(path)


@pytest.mark.parametrize('end', ['.nii', '.nii.gz'])
def test_slices_of_a_volume(tmp_path, end):
    nibabel = pytest.importorskip('nibabel')
    path, volume = tmp_path / f'case.1{end}', DEEP[:, 0].transpose(2, 1, 0).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), path)
    pages = pages_of(path)
    assert [p.stem for p in pages] == [f'case.1-{i}' for i in range(5)]
    for page, values in zip(pages, DEEP[:, 0], strict=True):
        assert (np.asarray(open_picture(page)) == values).all()
    nibabel.save(nibabel.Nifti1Image(DEEP.transpose(3, 2, 0, 1).astype(np.int16), np.eye(4)), path)
    for page, values in zip(pages, DEEP, strict=True):
        assert (np.asarray(open_picture(page)) == values.transpose(1, 2, 0)).all()
    image = nibabel.Nifti1Image(volume, np.eye(4))
    image.header.set_slope_inter(0.5, -1000)
    nibabel.save(image, path)
    whole = nibabel.load(path).get_fdata()
    assert np.allclose(np.asarray(open_picture(pages[2])), whole[:, :, 2].T)


def dicom(path, pixels, **about):
    pydicom = pytest.importorskip('pydicom')
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = '1.2.840.10008.5.1.4.1.1.2'
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds = pydicom.Dataset()
    ds.file_meta, ds.SOPClassUID = meta, meta.MediaStorageSOPClassUID
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.PatientID, ds.PixelSpacing, ds.ImagePositionPatient = 'p', [0.5, 0.7], [1, 2, 3]
    ds.Rows, ds.Columns, ds.SamplesPerPixel = *pixels.shape[-2:], 1
    ds.PhotometricInterpretation, ds.PixelRepresentation = 'MONOCHROME2', pixels.dtype.kind == 'i'
    ds.BitsAllocated = ds.BitsStored = 8 * pixels.dtype.itemsize
    ds.HighBit = ds.BitsStored - 1
    if pixels.ndim == 3:
        ds.NumberOfFrames = len(pixels)
    for name, value in about.items():
        setattr(ds, name, value)
    ds.PixelData = pixels.tobytes()
    ds.save_as(path, enforce_file_format=True)


def test_frames_of_dicom(tmp_path):
    path = tmp_path / 'x.dcm'
    dicom(path, DEEP[0, 0])
    assert pages_of(path) == [path] and (np.asarray(open_picture(path)) == DEEP[0, 0]).all()
    dicom(path, DEEP[:, 0], RescaleSlope=2, RescaleIntercept=-1024)
    for page, values in zip(pages_of(path), DEEP[:, 0], strict=True):
        assert (np.asarray(open_picture(page)) == 2.0 * values - 1024).all()
    dicom(path, BYTES[0, 0], PhotometricInterpretation='MONOCHROME1')
    light = np.asarray(open_picture(path)).astype(int)
    assert np.ptp(light + BYTES[0, 0]) == 0
    path.write_bytes(bytes(128) + b'DICM' + bytes(200))
    with pytest.raises(InputError, match=r'x\.dcm: damaged \(it holds no picture'):
        open_picture(path)


@pytest.mark.parametrize('name, end', [('nibabel', '.nii.gz'), ('pydicom', '.dcm')])
def test_a_missing_library_is_named(tmp_path, monkeypatch, name, end):
    path = tmp_path / f'x{end}'
    path.write_bytes(bytes(128) + (b'DICM' if end == '.dcm' else b'n+1'))
    monkeypatch.setitem(__import__('sys').modules, name, None)
    with pytest.raises(InputError, match=f'`pip install {name}`'):
        open_picture(path)


def test_bands_become_channels_or_a_line(tmp_path):
    def picture(bands, end='.npy'):
        path = tmp_path / f'{bands}{end}'
        np.save(path, BYTES[0, [0, 1, 2, 3] * 2][:bands].transpose(1, 2, 0).squeeze())
        return path

    one, three, four = map(picture, (1, 3, 4))
    assert (read_image(one, 3) == BYTES[0, :1].transpose(1, 2, 0)).all()
    grey = np.asarray(Image.fromarray(BYTES[0, :3].transpose(1, 2, 0)).convert('L'), int)
    assert np.abs(read_image(three, 1)[..., 0] - grey).max() <= 1
    assert (read_image(four, 4) == BYTES[0].transpose(1, 2, 0)).all()
    assert (read_image(four, 3) == BYTES[0, :3].transpose(1, 2, 0)).all()  # as RGBA
    for path, channels in ((picture(6), 3), (three, 6), (one, 4), (picture(5), 4)):
        with pytest.raises(InputError, match=f'bands, expected {channels}'):
            read_image(path, channels)
    png = io.BytesIO()
    Image.fromarray(BYTES[0, :3].transpose(1, 2, 0)).save(png, 'PNG')
    (tmp_path / 'p.png').write_bytes(png.getvalue())
    with pytest.raises(InputError, match='3 bands, expected 4'):
        read_image(tmp_path / 'p.png', 4)


def test_each_band_by_its_own_range(tmp_path):
    low, high = (0, 100, 50, 0), (4095, 200, 4000, 1)
    path = tmp_path / 'x.npy'
    np.save(path, DEEP[0].transpose(1, 2, 0))
    found = read_image(path, 4, (low, high))
    for i in range(4):
        values = (DEEP[0, i].astype(float) - low[i]) / (high[i] - low[i])
        assert np.abs(found[..., i] - values.clip(0, 1) * 65535).max() <= 0.51


def test_labels_of_arrays_and_volumes(tmp_path):
    label = RNG.integers(0, 5, (H, W))
    for dtype in (np.uint8, np.int64, np.float32, np.uint16):
        np.save(tmp_path / 'x.npy', label.astype(dtype))
        raw = read_raw(tmp_path / 'x.npy')
        assert raw.layout == 'grey' and (raw.values[raw.inverse] == label).all()
    np.save(tmp_path / 'x.npy', np.dstack([label] * 3).astype(np.uint8))
    assert read_raw(tmp_path / 'x.npy').layout == 'rgb'
    np.save(tmp_path / 'x.npy', np.dstack([label] * 5))
    with pytest.raises(InputError, match='5 pages or bands; expected one of class indices'):
        read_raw(tmp_path / 'x.npy')
    np.save(tmp_path / 'x.npy', label + 0.5)
    with pytest.raises(InputError, match='fractions'):
        read_raw(tmp_path / 'x.npy')


def test_a_large_tiff_is_read_in_parts(tmp_path):
    """A PNG of as many pixels is refused; of a TIFF only what is asked for takes memory."""
    import tracemalloc

    side = 9000
    assert side * side > MAX_PIXELS
    corner = RNG.integers(0, 255, (64, 64)).astype(np.uint8)
    for how in (dict(tile=(512, 512), compression='zlib'), dict(rowsperstrip=64)):
        tifffile.imwrite(
            tmp_path / 'x.tif', np.pad(corner, (side - 64, 0)), photometric='minisblack', **how
        )
        tracemalloc.start()
        picture = Picture(tmp_path / 'x.tif', 1)
        assert picture.shape == (side, side, 1)
        assert (picture[side - 64 : side, side - 64 : side][..., 0] == corner).all()
        assert tracemalloc.get_traced_memory()[1] < 2e6
        tracemalloc.stop()
