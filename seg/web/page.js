'use strict';
// The page's own part: gets pictures, shows and saves what engine.js, in a worker, makes of them.

const $ = (id) => document.getElementById(id);
const { about, words } = JSON.parse($('facts').textContent);
const MOST = 2 ** 26; // pixels of a picture, as of the program's
const photo = $('photo').getContext('2d');
const mask = $('mask').getContext('2d');
let language = navigator.language.startsWith('zh') ? 'zh' : 'en';
let said = ['loading']; // a key of words, and what stands in it
let shown = null; // {name, width, height, index, counts} of the picture that is painted
let latest = 0; // the number of the last picture
let chosen = 0; // the number of the last file that was asked for
let settle = () => {}; // takes the worker's answer to it
let worker;

// ---------------------------------------------------------------- words

function say(key, values = {}) {
  return words[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

function tell(key, values, wrong = false) {
  said = [key, values];
  $('status').textContent = say(...said);
  $('status').classList.toggle('wrong', wrong);
  $('status').classList.toggle('busy', ['working', 'tiles'].includes(key));
}

function speak() {
  document.documentElement.lang = language;
  for (const e of document.querySelectorAll('[data-word]')) e.textContent = say(e.dataset.word);
  const { height, width } = about.size;
  const size = height ? say('input', { size: `${width} × ${height}` }) : say('free');
  $('about').textContent = `${size}${language === 'zh' ? '' : ' '}${say('licence', about)}`;
  $('language').textContent = language === 'zh' ? 'English' : '中文';
  $('status').textContent = say(...said);
}

// ---------------------------------------------------------------- the worker

// Bytes of a part of this page that is packed.
async function unpack(id) {
  const text = atob($(id).textContent);
  $(id).remove();
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < packed.length; i++) packed[i] = text.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Response(stream).arrayBuffer();
}

async function start() {
  const packed = ['runtime', 'glue', 'wasm', 'network'];
  const [runtime, glue, wasm, network] = await Promise.all(packed.map(unpack));
  const code = new Blob([runtime, '\n', $('engine').textContent], { type: 'text/javascript' });
  worker = new Worker(URL.createObjectURL(code));
  await new Promise((done, fail) => {
    worker.onerror = (event) => fail(event.message ?? event.type);
    worker.onmessage = ({ data }) => (data.ready ? done() : fail(data.error));
    worker.postMessage({ about, wasm, glue, network }, [wasm, glue, network]);
  });
  worker.onmessage = ({ data }) => {
    if (data.number === latest) data.all ? tell('tiles', data) : settle(data);
  };
}

// ---------------------------------------------------------------- a picture

// Paint what can be drawn on a canvas; false where another came first or it failed.
async function paint(source, width, height, name) {
  if (width * height > MOST) {
    tell('tooLarge', { name, width, height, most: Math.round(MOST / 1e6) }, true);
    return false;
  }
  settle({}); // nobody waits for the picture before
  const number = ++latest;
  const still = document.createElement('canvas');
  [still.width, still.height] = [width, height];
  let data;
  try {
    const context = still.getContext('2d', { willReadFrequently: true });
    context.drawImage(source, 0, 0);
    ({ data } = context.getImageData(0, 0, width, height));
  } catch (error) { // no memory for it
    tell('failed', { name, why: error.message }, true);
    return false;
  }
  const live = camera();
  if (!live) draw(still);
  const fault = await started;
  if (fault) {
    tell('noStart', { why: fault }, true);
    return false;
  }
  if (number !== latest) return false;
  if (!live) tell('working');
  const answer = await new Promise((done) => {
    settle = done;
    worker.postMessage({ number, rgba: data, size: [height, width] }, [data.buffer]);
  });
  if (answer.error) tell('failed', { name, why: answer.error }, true);
  if (!answer.index || number !== latest) return false;
  if (live) draw(still);
  shown = { name, width, height, ...answer };
  colour();
  tell(camera() ? 'frames' : 'done', { ...shown, ms: Math.round(answer.ms) });
  return true;
}

// Show a picture, not painted yet.
function draw(still) {
  shown = null;
  for (const canvas of [$('photo'), $('mask')]) {
    [canvas.width, canvas.height] = [still.width, still.height];
  }
  photo.drawImage(still, 0, 0);
  $('view').style.maxWidth = `min(100%, ${(76 * still.width) / still.height}vh)`;
  document.body.classList.add('filled');
  $('tools').disabled = true;
}

// Show what the worker found.
function colour() {
  const { width, height, index, counts } = shown;
  const picture = mask.createImageData(width, height);
  const palette = new Uint32Array(256); // as bytes in memory: red, green, blue, opaque
  const bytes = new Uint8Array(palette.buffer);
  about.classes.forEach((entry, i) => bytes.set([...entry.colour, 255], 4 * i));
  const pixels = new Uint32Array(picture.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = palette[index[i]];
  mask.putImageData(picture, 0, 0);
  about.classes.forEach(({ role }, i) => {
    if (role !== 'scored') return;
    const part = (100 * counts[i]) / index.length;
    const row = $(`class${i}`);
    row.classList.toggle('absent', !counts[i]);
    row.style.setProperty('--share', `${part}%`);
    row.lastElementChild.textContent = `${part.toFixed(1)} %`;
  });
  $('tools').disabled = false;
}

async function openFile(file, name = file?.name) {
  stopCamera();
  if (!file) return tell('noFile', {}, true);
  const asked = ++chosen;
  let bitmap;
  try {
    const how = { imageOrientation: 'from-image', colorSpaceConversion: 'none' }; // as Pillow
    bitmap = await createImageBitmap(file, how);
  } catch {
    return tell('noPicture', { name }, true);
  }
  if (asked === chosen) await paint(bitmap, bitmap.width, bitmap.height, name);
  bitmap.close();
}

// ---------------------------------------------------------------- the camera

const camera = () => $('video').srcObject;

function stopCamera() {
  for (const track of camera()?.getTracks() ?? []) track.stop();
  $('video').srcObject = null;
  $('camera').dataset.word = 'camera';
  speak();
}

async function startCamera() {
  const video = $('video');
  $('camera').disabled = true;
  try {
    const wanted = { video: { facingMode: 'environment' } };
    video.srcObject = await navigator.mediaDevices.getUserMedia(wanted);
    await video.play();
  } catch (error) {
    stopCamera();
    return tell('noCamera', { why: error.message }, true);
  } finally {
    $('camera').disabled = false;
  }
  $('camera').dataset.word = 'stop';
  speak();
  const stream = camera();
  while (stream && camera() === stream && stream.active) {
    if (!(await paint(video, video.videoWidth, video.videoHeight, say('shot')))) break;
  }
  if (camera() === stream) stopCamera();
}

// ---------------------------------------------------------------- saving

function crc(bytes) {
  let value = -1;
  for (const byte of bytes) {
    value ^= byte;
    for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ (value & 1 ? 0xedb88320 : 0);
  }
  return ~value >>> 0;
}

// A PNG of 8 bits, grey or RGB: a canvas would make four channels of it.
async function png(bytes, width, height, channels) {
  const row = width * channels;
  const rows = new Uint8Array(height * (row + 1)); // a filter type, 0, before each
  for (let y = 0; y < height; y++) {
    rows.set(bytes.subarray(y * row, (y + 1) * row), y * (row + 1) + 1);
  }
  const stream = new Blob([rows]).stream().pipeThrough(new CompressionStream('deflate'));
  const packed = new Uint8Array(await new Response(stream).arrayBuffer());
  const chunk = (kind, content) => {
    const part = new Uint8Array(content.length + 12);
    const view = new DataView(part.buffer);
    view.setUint32(0, content.length);
    part.set(new TextEncoder().encode(kind), 4);
    part.set(content, 8);
    view.setUint32(content.length + 8, crc(part.subarray(4, -4)));
    return part;
  };
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  header.set([8, channels === 3 ? 2 : 0], 8);
  const start = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);
  return new Blob([start, chunk('IHDR', header), chunk('IDAT', packed), chunk('IEND', [])]);
}

const SAVES = {
  colour: ({ index, width, height }) => {
    const rgb = new Uint8Array(3 * index.length);
    index.forEach((c, i) => rgb.set(about.classes[c].colour, 3 * i));
    return [png(rgb, width, height, 3), '.png'];
  },
  index: ({ index, width, height }) => [png(index, width, height, 1), '-index.png'],
  overlay: ({ width, height }) => {
    const both = document.createElement('canvas');
    [both.width, both.height] = [width, height];
    const context = both.getContext('2d');
    context.drawImage($('photo'), 0, 0);
    context.globalAlpha = $('opacity').value / 100;
    context.drawImage($('mask'), 0, 0);
    return [new Promise((done) => both.toBlob(done, 'image/jpeg', 0.92)), '-overlay.jpg'];
  },
};

async function save(kind) {
  const stem = shown.name.replace(/\.\w+$/, '');
  const [content, end] = SAVES[kind](shown);
  const link = document.createElement('a');
  link.href = URL.createObjectURL(await content);
  link.download = stem + end;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// ---------------------------------------------------------------- what people do

$('language').onclick = () => {
  language = language === 'zh' ? 'en' : 'zh';
  speak();
};
$('choose').onclick = () => $('file').click();
$('file').onchange = ({ target }) => {
  if (target.files[0]) openFile(target.files[0]);
  target.value = ''; // the same again is a change, too
};
$('camera').onclick = () => (camera() ? stopCamera() : startCamera());
$('opacity').oninput = ({ target }) => ($('mask').style.opacity = target.value / 100);
for (const kind of Object.keys(SAVES)) $(kind).onclick = () => save(kind);
document.onpaste = ({ clipboardData }) => {
  const [file] = clipboardData.files;
  if (file) openFile(file, file.name || say('pasted'));
};
document.ondragover = (event) => {
  event.preventDefault();
  document.body.classList.add('over');
};
document.ondragleave = ({ relatedTarget }) => {
  if (!relatedTarget) document.body.classList.remove('over');
};
document.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove('over');
  openFile(event.dataTransfer.files[0]);
};
$('view').onpointermove = ({ offsetX, offsetY }) => {
  const x = Math.floor((offsetX / $('mask').clientWidth) * $('mask').width);
  const y = Math.floor((offsetY / $('mask').clientHeight) * $('mask').height);
  const found = about.classes[shown?.index[y * shown.width + x]];
  $('here').textContent = found?.name ?? '';
  $('here').style.translate = `${offsetX}px ${offsetY}px`;
};
$('view').onpointerleave = () => ($('here').textContent = '');

speak();
const started = start().then( // '', or why not
  () => tell('ready') ?? '',
  (why) => tell('noStart', { why: why?.message ?? why }, true) ?? String(why?.message ?? why),
);
