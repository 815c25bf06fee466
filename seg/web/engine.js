'use strict';
// Behind the page, so that it stays awake: RGBA pixels in, class indices out. Does what
// seg/sizes.py, seg/tiles.py and seg/predict.py do, number by number. Sizes are [height, width].

let about, session; // what seg/web/__init__.py says of the network; the network
let wanted; // number of the latest picture
const STALE = 'another picture came';

// ---------------------------------------------------------------- resizing as Pillow does it

const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));
const LANCZOS = [(x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0), 3]; // filter, its reach
const BILINEAR = [(x) => Math.max(0, 1 - Math.abs(x)), 1];
const BITS = 22; // of the fixed-point weights of bytes

// [first, weights] of the values of `from` that each of `to` takes.
function weights(from, to, [filter, reach], bytes) {
  const scale = from / to;
  const wide = Math.max(scale, 1); // anti-aliased
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach * wide + 0.5));
    const end = Math.min(from, Math.trunc(centre + reach * wide + 0.5));
    const at = (_, k) => filter((k + first - centre + 0.5) * (1 / wide));
    let found = Array.from({ length: end - first }, at);
    const sum = found.reduce((a, b) => a + b);
    found = found.map((w) => w / sum);
    if (bytes) found = found.map((w) => Math.trunc(w * 2 ** BITS + (w < 0 ? -0.5 : 0.5)));
    return [first, Float64Array.from(found)];
  });
}

// (outer, from, inner) -> (outer, to, inner): bytes rounded and clamped, or floats.
function along(source, outer, from, inner, to, filter) {
  const bytes = source instanceof Uint8ClampedArray;
  const half = bytes ? 2 ** (BITS - 1) : 0;
  const result = new source.constructor(outer * to * inner);
  const taken = weights(from, to, filter, bytes);
  let at = 0;
  for (let o = 0; o < outer; o++) {
    for (const [first, w] of taken) {
      const start = (o * from + first) * inner;
      for (let c = start; c < start + inner; c++) {
        let sum = half;
        for (let k = 0, place = c; k < w.length; k++, place += inner) sum += source[place] * w[k];
        result[at++] = bytes ? sum >> BITS : sum;
      }
    }
  }
  return result;
}

function resize(source, [h, w], channels, [high, wide], filter) {
  const tall = high < h && h - high > 2 * (w - wide); // Pillow 13 begins with the height then
  if (tall) source = along(source, 1, h, w * channels, high, filter);
  if (w !== wide) source = along(source, tall ? high : h, w, channels, wide, filter);
  return tall || h === high ? source : along(source, 1, h, wide * channels, high, filter);
}

// ---------------------------------------------------------------- the size rule

// As Python rounds: half to even.
function round(x) {
  const near = Math.round(x);
  return near - x === 0.5 && near % 2 ? near - 1 : near;
}

// [size of the network's input, size that the picture takes of it].
function fit([h, w]) {
  const { rule, height, width, multiple } = about.size;
  if (!height) return [[h, w].map((side) => Math.ceil(side / multiple) * multiple), [h, w]];
  if (rule === 'stretch') return [[height, width], [height, width]];
  const scale = Math.min(height / h, width / w);
  return [[height, width], [h, w].map((side) => Math.max(1, round(side * scale)))];
}

// RGBA -> as many channels as the network takes; grey as Pillow weighs it.
function channelsOf(rgba) {
  const count = about.channels;
  const result = new Uint8ClampedArray((rgba.length / 4) * count);
  for (let i = 0, at = 0; i < rgba.length; i += 4, at += count) {
    const [r, g, b] = [rgba[i], rgba[i + 1], rgba[i + 2]];
    result[at] = count === 1 ? (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16 : r;
    if (count === 3) {
      result[at + 1] = g;
      result[at + 2] = b;
    }
  }
  return result;
}

// ---------------------------------------------------------------- the network

// Probabilities (high, wide, n) of the window of a picture; beyond its edge it goes on as the edge.
async function infer(number, picture, [h, w], [top, left], [high, wide]) {
  const count = about.channels;
  const input = new Float32Array(high * wide * count);
  let at = 0;
  for (let y = top; y < top + high; y++) {
    const row = Math.min(y, h - 1) * w;
    for (let x = left; x < left + wide; x++) {
      const pixel = (row + Math.min(x, w - 1)) * count;
      for (let c = 0; c < count; c++) input[at++] = picture[pixel + c] / 255;
    }
  }
  const tensor = new ort.Tensor('float32', input, [1, high, wide, count]);
  const output = (await session.run({ [about.input]: tensor }))[about.output];
  await new Promise((done) => setTimeout(done)); // messages come in between
  if (wanted !== number) throw STALE;
  return output.data;
}

// Class indices of `size` of probabilities (h, w, n) in rows of `across` pixels, scaled bilinearly
// class by class.
function mostProbable(probabilities, across, [h, w], size) {
  const { classes, output_channels: n } = about;
  const all = [...classes.keys()];
  const scored = n === 1 ? [0, 1] : all.filter((c) => classes[c].role === 'scored');
  const index = new Uint8Array(size[0] * size[1]).fill(scored[0]);
  let best;
  for (const c of scored) {
    let plane = new Float32Array(h * w);
    for (let y = 0, i = 0; y < h; y++) {
      for (let x = 0, at = y * across * n; x < w; x++, at += n) {
        plane[i++] = n > 1 ? probabilities[at + c] : c ? probabilities[at] : 1 - probabilities[at];
      }
    }
    plane = resize(plane, [h, w], 1, size, BILINEAR);
    if (!best) best = plane;
    for (let i = 0; i < plane.length; i++) {
      if (plane[i] > best[i]) {
        best[i] = plane[i];
        index[i] = c;
      }
    }
  }
  return index;
}

// ---------------------------------------------------------------- tiles of large pictures

const STEP = 32;
const BLEND = 32;

// (side, [first pixel]) of the fewest tiles along a side, see seg/tiles.py.
function spread(length, tile, overlap) {
  const whole = Math.ceil(length / STEP);
  const count = Math.max(1, Math.ceil((whole * STEP - overlap) / (tile - overlap)));
  const side = Math.ceil((whole + Math.floor(((count - 1) * overlap) / STEP)) / count);
  const start = (_, i) => Math.floor((i * (whole - side)) / Math.max(count - 1, 1)) * STEP;
  return [side * STEP, Array.from({ length: count }, start)];
}

// [first pixel, end, pixels shared with the tile before, with the next] of what is used of each.
function parts(starts, side) {
  let first = 0;
  let before = 0;
  return starts.map((start, i) => {
    const both = i + 1 < starts.length ? start + side - starts[i + 1] : 0;
    const share = Math.min(both, BLEND);
    const begin = both ? starts[i + 1] + Math.floor((both - share) / 2) : start + side;
    const part = [first, begin + share, before, share];
    [first, before] = [begin, share];
    return part;
  });
}

// What a tile counts at pixel i of its used part: less where it is blended with a neighbour.
function share(i, [first, end, before, after]) {
  if (i < first + before) return (i - first + 0.5) / before;
  return i < end - after ? 1 : (end - i - 0.5) / after;
}

async function paintTiled(number, picture, [h, w]) {
  const n = about.output_channels;
  const [high, tops] = spread(h, about.tile, about.overlap);
  const [wide, lefts] = spread(w, about.tile, about.overlap);
  const index = new Uint8Array(h * w);
  let done = 0;
  let band = new Float32Array(0); // what the row of tiles before shares with this one
  const columns = parts(lefts, wide);
  for (const [i, row] of parts(tops, high).entries()) {
    const [top, bottom, , down] = row;
    const rows = new Float32Array((bottom - top) * w * n);
    rows.set(band);
    for (const [j, column] of columns.entries()) {
      const output = await infer(number, picture, [h, w], [tops[i], lefts[j]], [high, wide]);
      const [left, right] = column;
      for (let y = top; y < bottom; y++) {
        for (let x = left; x < Math.min(right, w); x++) {
          const from = ((y - tops[i]) * wide + x - lefts[j]) * n;
          const to = ((y - top) * w + x) * n;
          const part = share(y, row) * share(x, column);
          for (let c = 0; c < n; c++) rows[to + c] += part * output[from + c];
        }
      }
      postMessage({ number, done: ++done, all: tops.length * lefts.length });
    }
    const ready = [Math.min(bottom - down, h) - top, w];
    index.set(mostProbable(rows, w, ready, ready), top * w);
    band = rows.subarray((bottom - top - down) * w * n);
  }
  return index;
}

async function paint(number, rgba, size) {
  const picture = channelsOf(rgba);
  const [outer, inner] = fit(size);
  if (!about.size.height && Math.max(...outer) > about.tile) {
    return paintTiled(number, picture, size);
  }
  const small = resize(picture, size, about.channels, inner, LANCZOS);
  const output = await infer(number, small, inner, [0, 0], outer);
  return mostProbable(output, outer[1], inner, size);
}

// ---------------------------------------------------------------- what the page asks for

async function start({ wasm, glue, network }) {
  Object.assign(ort.env, { logLevel: 'error' });
  const mjs = URL.createObjectURL(new Blob([glue], { type: 'text/javascript' }));
  Object.assign(ort.env.wasm, { numThreads: 1, wasmBinary: wasm, wasmPaths: { mjs } });
  const how = { executionProviders: ['wasm'] };
  session = await ort.InferenceSession.create(new Uint8Array(network), how);
}

onmessage = async ({ data }) => {
  const { number, rgba, size } = data;
  try {
    if (data.about) {
      about = data.about;
      await start(data);
      return postMessage({ ready: true });
    }
    wanted = number;
    const began = performance.now();
    const index = await paint(number, rgba, size);
    const counts = new Array(about.classes.length).fill(0);
    for (const c of index) counts[c]++;
    postMessage({ number, index, counts, ms: performance.now() - began }, [index.buffer]);
  } catch (error) {
    if (error !== STALE) postMessage({ number, error: String(error?.message ?? error) });
  }
};
