(function () {
"use strict";
// Axis letters as in the package: K classes, N image patches, M feature patches, D pixels of a patch.
// The colours are Okabe and Ito's, distinct in all kinds of colour vision.
const PATCH = "#F0E442", REGION = "#56B4E9", CHANGED = [213, 94, 0];
const CLOSE_UP = 10, REGIONS = 5, SMALL = 9, KEYS = "123456789abcdefghijklmnopqrstuvwxyz";
const about = JSON.parse(document.getElementById("description").textContent);
const [H, W] = about.size, K = about.maps.length, PARTS = about.parts.length;
// The sizes of the attention that is shown, one of several.
let PH, PW, D, COLUMNS, REGION_ROWS, REGION_COLUMNS, STRIDE, N, M, REGION_HEIGHT, REGION_WIDTH, LAST_ROW, LAST_COLUMN;
const TYPES = {uint8: Uint8Array, int16: Int16Array, uint32: Uint32Array, float32: Float32Array};
const $ = id => document.getElementById(id);
const state = {slice: about.first, part: 0, point: about.point, chosen: null, layer: "attention", held: false, drawn: false};
const loaded = {};
let data = null, now = null;

// --- numbers

async function load(index, part) {
  const slice = about.slices[index], id = "slice" + index, own = id + "part" + part;
  loaded[id] = loaded[id] || await loadPictures(id, slice);
  loaded[own] = loaded[own] || await loadPart(own, slice.parts[part]);
  return {...loaded[id], ...loaded[own], index, part};
}

async function loadPictures(id, slice) {
  const found = await read(id, slice.arrays);
  found.picture = await decodePicture(slice.picture);
  found.grey = makeGrey(found.picture);
  for (const name of ["before", "after", "label"]) if (found[name]) found[name + "Picture"] = paintClasses(found[name]);
  found.changedPicture = paintChanges(found);
  return found;
}

async function loadPart(id, {scales, signed, arrays}) {
  const starts = [];
  let components = 0;
  for (const own of scales) { starts.push(components); components += own.length; }
  return {...await read(id, arrays), scales, signed, starts, components, pooled: []};
}

async function read(id, arrays) {
  const text = $(id).textContent, binary = atob(text), packed = new Uint8Array(binary.length);
  for (let i = 0; i < packed.length; i++) packed[i] = binary.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer()), found = {};
  let offset = 0;
  for (const {name, type, length} of arrays) {
    const array = new TYPES[type](length), target = new Uint8Array(array.buffer), size = array.BYTES_PER_ELEMENT;
    for (let b = 0; b < size; b++, offset += length)
      for (let i = 0; i < length; i++) target[i * size + b] = bytes[offset + i];
    found[name] = array;
  }
  return found;
}

function useSizes(part) {
  [PH, PW] = part.patch;
  [REGION_ROWS, REGION_COLUMNS] = part.regions;
  STRIDE = part.stride;
  COLUMNS = part.grid[1];
  D = PH * PW;
  N = part.grid[0] * COLUMNS;
  M = REGION_ROWS * REGION_COLUMNS;
  REGION_HEIGHT = PH * STRIDE;
  REGION_WIDTH = PW * STRIDE;
  // Patches that lie in the padding only are left out.
  LAST_ROW = Math.ceil(H / PH) - 1;
  LAST_COLUMN = Math.ceil(W / PW) - 1;
}

// Row n of A of class k: the sum of a few components.
function attend(k, n) {
  const row = new Float32Array(M), scales = data.scales[k];
  scales.forEach((scale, i) => {
    const r = data.starts[k] + i, weight = scale * data.query[r * N + n], key = r * M;
    if (weight) for (let m = 0; m < M; m++) row[m] += weight * data.key[key + m];
  });
  // Rounding must not give an attention a sign that it does not have.
  if (!data.signed) for (let m = 0; m < M; m++) if (row[m] < 0) row[m] = 0;
  return row;
}

// Step 8: the attention, divided by the number of non-zeros of its row, times the share of the class.
function vote(k, n, row) {
  const votes = new Float32Array(M), count = data.counts[k * N + n] + 1e-5;
  for (let m = 0; m < M; m++) votes[m] = row[m] * data.values[k * M + m] / count;
  return votes;
}

// The label's average over the pixels of each feature pixel, (M,D).
function pool(id) {
  if (data.pooled[id]) return data.pooled[id];
  const pooled = new Float32Array(M * D), [rows, columns] = about.parts[data.part].feature_size;
  for (let y = 0; y < H; y++) for (let x = 0; x < W; x++) {
    if (data.label[y * W + x] !== id) continue;
    const fy = Math.floor(y / STRIDE), fx = Math.floor(x / STRIDE);
    if (fy >= rows || fx >= columns) continue;
    const m = Math.floor(fy / PH) * REGION_COLUMNS + Math.floor(fx / PW);
    pooled[m * D + fy % PH * PW + fx % PW] += 1 / (STRIDE * STRIDE);
  }
  return data.pooled[id] = pooled;
}

// Row n of the gold attention of a class; null where the patch has no pixel of it, and the row is zero.
function attendGold(id, box) {
  const pixels = [];
  for (let y = box.top; y < box.bottom; y++) for (let x = box.left; x < box.right; x++)
    if (data.label[y * W + x] === id) pixels.push((y - box.top) * PW + x - box.left);
  if (!pixels.length) return null;
  const key = pool(id), row = new Float32Array(M);
  for (let m = 0; m < M; m++) {
    let sum = 0;
    for (const d of pixels) sum += key[m * D + d];
    row[m] = sum / D;
  }
  return row;
}

function shareOf(map, id, box) {
  let count = 0;
  for (let y = box.top; y < box.bottom; y++) for (let x = box.left; x < box.right; x++) count += map[y * W + x] === id;
  return count / ((box.bottom - box.top) * (box.right - box.left));
}

// All that the page shows of the patch at the point.
function look() {
  const [y, x] = state.point, row = Math.floor(y / PH), column = Math.floor(x / PW), n = row * COLUMNS + column;
  const box = boxOf(row, column, PH, PW);
  const predicted = about.maps.findIndex(map => map.id === data.after[y * W + x]);
  const k = state.chosen === null ? (K > 1 ? predicted : 0) : state.chosen;
  const maps = about.maps.map(({id}, index) => {
    const shares = {before: shareOf(data.before, id, box), after: shareOf(data.after, id, box)};
    if (!holders(index).includes(data.part)) return shares;
    const attention = attend(index, n), votes = vote(index, n, attention);
    return {...shares, attention, votes, gold: data.label ? attendGold(id, box) : null, sum: votes.reduce((a, b) => a + b, 0)};
  });
  const voters = maps[k].votes ? Array.from(maps[k].votes.keys()).filter(m => maps[k].votes[m] !== 0) : [];
  voters.sort((a, b) => Math.abs(maps[k].votes[b]) - Math.abs(maps[k].votes[a]));
  const regions = voters.slice(0, REGIONS).map(m => ({
    box: boxOf(Math.floor(m / REGION_COLUMNS), m % REGION_COLUMNS, REGION_HEIGHT, REGION_WIDTH),
    vote: maps[k].votes[m], attention: maps[k].attention[m],
  }));
  return {row, column, box, k, maps, regions};
}

// The attentions that hold a class.
function holders(k) {
  return Array.from(about.parts.keys()).filter(part => about.parts[part].maps.includes(k));
}

function boxOf(row, column, height, width) {
  const top = Math.min(row * height, H), left = Math.min(column * width, W);
  return {top, left, bottom: Math.min(top + height, H), right: Math.min(left + width, W)};
}

// --- pictures

function newCanvas(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

function decodePicture(source) {
  return new Promise((resolve, reject) => {
    const picture = new Image();
    picture.onload = () => resolve(picture);
    picture.onerror = () => reject(new Error("the picture cannot be decoded"));
    picture.src = source;
  });
}

function makeGrey(picture) {
  const canvas = newCanvas(W, H), context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0, W, H);
  context.globalCompositeOperation = "saturation";
  context.fillStyle = "#808080";
  context.fillRect(0, 0, W, H);
  context.globalCompositeOperation = "source-over";
  context.fillStyle = "rgba(255, 255, 255, .4)";
  context.fillRect(0, 0, W, H);
  return canvas;
}

function paint(color) {
  const canvas = newCanvas(W, H), pixels = new ImageData(W, H);
  for (let i = 0; i < W * H; i++) pixels.data.set(color(i), 4 * i);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

function paintClasses(map) {
  const colors = Array.from({length: 256}, (_, id) => [...(about.classes[id] ? about.classes[id].color : [0, 0, 0]), 255]);
  return paint(i => colors[map[i]]);
}

// Over the pale image; each changed pixel is drawn larger than it is, so that it stays visible where the picture is small.
function paintChanges({before, after, grey}) {
  const changed = [...CHANGED, 255], none = [0, 0, 0, 0], dots = paint(i => before[i] !== after[i] ? changed : none);
  const canvas = newCanvas(W, H), context = canvas.getContext("2d"), around = Math.ceil(W / 500);
  context.drawImage(grey, 0, 0);
  context.fillStyle = "rgba(255, 255, 255, .6)";
  context.fillRect(0, 0, W, H);
  for (const dy of [-around, 0, around]) for (const dx of [-around, 0, around]) context.drawImage(dots, dx, dy);
  return canvas;
}

const tile = newCanvas(1, 1), tileContext = tile.getContext("2d", {willReadFrequently: true});
const viridisBytes = new Uint8Array(4 * 256), viridis = new Uint32Array(viridisBytes.buffer);
for (let i = 0; i < 256; i++) viridisBytes.set([...about.viridis.slice(3 * i, 3 * i + 3), 255], 4 * i);

// Draw a value per region over the whole of a canvas. The last regions may reach beyond the image.
function drawMap(context, values, low, high, alpha) {
  const tilePixels = new ImageData(REGION_COLUMNS, REGION_ROWS), tileWords = new Uint32Array(tilePixels.data.buffer);
  for (let m = 0; m < M; m++) {
    tileWords[m] = viridis[Math.max(0, Math.min(255, Math.round((values[m] - low) / (high - low) * 255)))];
  }
  tileContext.putImageData(tilePixels, 0, 0);
  context.imageSmoothingEnabled = false;
  context.globalAlpha = alpha;
  const {width, height} = context.canvas;
  context.drawImage(tile, 0, 0, W / REGION_WIDTH, H / REGION_HEIGHT, 0, 0, width, height);
  context.globalAlpha = 1;
  context.imageSmoothingEnabled = true;
}

// Fit a canvas's pixels to its size on the screen.
function fit(canvas, aspect) {
  const width = Math.max(1, Math.round(canvas.clientWidth * Math.min(2, window.devicePixelRatio || 1)));
  const height = Math.max(1, Math.round(width * aspect));
  if (canvas.width === width && canvas.height === height) return;
  canvas.width = width;
  canvas.height = height;
}

// Scaling a large picture takes long; so each canvas keeps its scaled copy.
function drawScaled(context, picture, name) {
  const {width, height} = context.canvas, canvas = context.canvas;
  const key = [name, data.index, width, height].join();
  if (canvas.copyKey !== key) {
    canvas.copy = newCanvas(width, height);
    const copy = canvas.copy.getContext("2d");
    copy.imageSmoothingQuality = "high";
    copy.drawImage(picture, 0, 0, width, height);
    canvas.copyKey = key;
  }
  context.clearRect(0, 0, width, height);
  context.drawImage(canvas.copy, 0, 0);
}

function outline(context, box, color, scale) {
  const x = box.left * scale, y = box.top * scale, width = (box.right - box.left) * scale;
  const height = (box.bottom - box.top) * scale, unit = context.canvas.width / (context.canvas.clientWidth || 1);
  for (const [style, line] of [["#000", 4], [color, 2]]) {
    context.strokeStyle = style;
    context.lineWidth = line * unit;
    context.beginPath();
    // A ring around a patch that is too small to see.
    if (Math.max(width, height) < SMALL * unit) context.arc(x + width / 2, y + height / 2, SMALL * unit, 0, 7);
    else context.rect(x, y, width, height);
    context.stroke();
  }
}

function writeNumber(context, number, box, scale) {
  const unit = context.canvas.width / (context.canvas.clientWidth || 1);
  const x = box.left * scale + 10 * unit, y = box.top * scale + 11 * unit;
  context.font = "600 " + 13 * unit + "px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.lineWidth = 3.5 * unit;
  context.strokeStyle = "#000";
  context.fillStyle = "#fff";
  context.strokeText(number, x, y);
  context.fillText(number, x, y);
}

function rangeOf(maps) {
  let low = 0, high = 0;
  for (const values of maps) if (values) for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high > low ? high : low + 1];
}

function drawMain() {
  const canvas = $("main"), context = canvas.getContext("2d"), plain = state.layer === "image", map = now.maps[now.k];
  fit(canvas, H / W);
  drawScaled(context, plain ? data.picture : data.grey, plain ? "picture" : "grey");
  const scale = canvas.width / W, {name} = about.maps[now.k];
  if (!plain && map.attention) {
    const values = map[state.layer] || new Float32Array(M), [low, high] = rangeOf([values]);
    drawMap(context, values, low, high, 0.6);
    $("low").textContent = format(low);
    $("high").textContent = format(high);
  }
  const names = {attention: "Attention to " + name, votes: "Votes for " + name, gold: "Gold attention to " + name, image: ""};
  $("layer_name").textContent = names[state.layer] + (plain || map.attention ? "" : ": " + absence(now.k));
  for (const id of ["low", "scale", "high"]) $(id).hidden = plain || !map.attention;
  now.regions.slice().reverse().forEach(({box}) => outline(context, box, REGION, scale));
  now.regions.slice().reverse().forEach(({box}, i) => writeNumber(context, now.regions.length - i, box, scale));
  outline(context, now.box, PATCH, scale);
  $("held").textContent = state.held ? "Patch held: click to release" : "";
}

function drawPanels() {
  for (const {canvas, name} of panels) {
    const context = canvas.getContext("2d");
    fit(canvas, H / W);
    drawScaled(context, data[name + "Picture"], name);
    outline(context, now.box, PATCH, canvas.width / W);
  }
}

function drawCloseUps() {
  const side = Math.min(Math.max(CLOSE_UP * Math.max(PH, PW), 48), Math.max(H, W));
  const startOf = (first, last, length) => Math.round(Math.max(Math.min((first + last - side) / 2, length - side), Math.min(0, (length - side) / 2)));
  const left = startOf(now.box.left, now.box.right, W), top = startOf(now.box.top, now.box.bottom, H);
  for (const {canvas, name} of closeUps) {
    fit(canvas, 1);
    const context = canvas.getContext("2d"), scale = canvas.width / side;
    context.fillStyle = "#ddd";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingEnabled = false;
    const x = Math.max(0, left), y = Math.max(0, top), width = Math.min(left + side, W) - x, height = Math.min(top + side, H) - y;
    const picture = name === "image" ? data.picture : data[name + "Picture"];
    context.drawImage(picture, x, y, width, height, (x - left) * scale, (y - top) * scale, width * scale, height * scale);
    const box = {left: now.box.left - left, right: now.box.right - left, top: now.box.top - top, bottom: now.box.bottom - top};
    outline(context, box, PATCH, scale);
    const unit = canvas.width / (canvas.clientWidth || 1), px = (state.point[1] + .5 - left) * scale, py = (state.point[0] + .5 - top) * scale;
    for (const [style, line] of [["#000", 3], [PATCH, 1.4]]) {
      context.strokeStyle = style;
      context.lineWidth = line * unit;
      context.beginPath();
      context.moveTo(px - 4 * unit, py); context.lineTo(px + 4 * unit, py);
      context.moveTo(px, py - 4 * unit); context.lineTo(px, py + 4 * unit);
      context.stroke();
    }
  }
}

// --- text

function format(x) {
  const size = Math.abs(x);
  if (!size) return "0";
  return size >= 1e-3 && size < 1e4 ? x.toPrecision(3) : x.toExponential(2).replace("e-0", "e-").replace("e+", "e");
}

// Where a class is that the attention does not hold.
function absence(k) {
  const others = holders(k).map(part => part + 1);
  return others.length ? "in attention " + others.join(", ") : "not corrected";
}

function named(id) {
  const found = about.classes[id], text = document.createElement("span");
  if (found) {
    const dot = document.createElement("span");
    dot.className = "dot";
    dot.style.background = "rgb(" + found.color.join() + ")";
    text.append(dot);
  }
  const name = document.createElement("b");
  name.textContent = found ? found.name : "void";
  text.append(name);
  return text;
}

function writeReadout() {
  const [y, x] = state.point, i = y * W + x, {box} = now, lines = [
    ["Patch: rows " + box.top + "–" + (box.bottom - 1) + ", columns " + box.left + "–" + (box.right - 1)],
    ["Pixel " + y + ", " + x + ": ", named(data.before[i]), data.before[i] === data.after[i] ? " before and after" : " → ",
      ...(data.before[i] === data.after[i] ? [] : [named(data.after[i]), " by the correction"])],
    ...(data.label ? [["Label: ", named(data.label[i])]] : []),
  ];
  $("readout").replaceChildren(...lines.map(parts => {
    const line = document.createElement("div");
    line.append(...parts);
    return line;
  }));
}

function writeRegions() {
  const most = Math.max(...now.regions.map(region => Math.abs(region.vote)), 0);
  const map = now.maps[now.k];
  $("chosen").textContent = about.maps[now.k].name + ": " + (map.votes ? format(map.sum) : absence(now.k));
  const rows = now.regions.map(({vote: amount, attention}, i) => {
    const row = document.createElement("li"), bar = document.createElement("i");
    row.append(...[i + 1, format(amount)].map(text => {
      const cell = document.createElement("span");
      cell.textContent = text;
      return cell;
    }));
    bar.style.width = 100 * Math.abs(amount) / most + "%";
    bar.className = amount < 0 ? "minus" : "";
    const last = document.createElement("span");
    last.textContent = "attention " + format(attention);
    row.append(bar, last);
    return row;
  });
  if (!rows.length) {
    rows.push(document.createElement("li"));
    rows[0].style.display = "block";
    rows[0].textContent = map.votes ?
      "No region votes: nothing was predicted as this class before the correction, or nothing attends." :
      "This attention does not hold the class.";
  }
  $("regions").replaceChildren(...rows);
}

function writeClasses() {
  const percent = share => Math.round(100 * share);
  const attention = rangeOf(now.maps.map(map => map.attention)), gold = rangeOf(now.maps.map(map => map.gold));
  now.maps.forEach((map, k) => {
    const row = rowsOfClasses[k], held = Boolean(map.attention);
    row.element.classList.toggle("chosen", k === now.k);
    row.button.setAttribute("aria-pressed", k === now.k);
    row.element.classList.toggle("absent", !held);
    if (held) drawMap(row.attention.getContext("2d"), map.attention, ...attention, 1);
    if (held && row.gold && (map.gold || row.hasGold !== false)) {
      drawMap(row.gold.getContext("2d"), map.gold || new Float32Array(M), ...gold, 1);
      row.hasGold = Boolean(map.gold);
    }
    row.peak.textContent = held ? format(map.attention.reduce((a, b) => Math.max(a, b), -Infinity)) : absence(k);
    row.peak.colSpan = held ? 1 : 2;
    row.sum.hidden = !held;
    row.sum.textContent = held ? format(map.sum) : "";
    const [before, after] = [percent(map.before), percent(map.after)];
    row.share.textContent = before === after ? (after ? after + " %" : "–") : before + " → " + after + " %";
    row.share.className = before || after ? "" : "none";
  });
}

// --- page

const panels = [], closeUps = [], rowsOfClasses = [];

function addFigure(parent, name, caption) {
  const figure = document.createElement("figure"), canvas = newCanvas(1, 1), text = document.createElement("figcaption");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", caption);
  text.textContent = caption;
  figure.append(canvas, text);
  $(parent).append(figure);
  return {canvas, name, caption: text};
}

function build() {
  const hasLabel = Boolean(data.label);
  const layers = [["attention", "Attention"], ["votes", "Votes"], ...(hasLabel ? [["gold", "Gold attention"]] : []), ["image", "Image"]];
  for (const [name, text] of layers) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.dataset.layer = name;
    button.addEventListener("click", () => { state.layer = name; draw(); });
    $("layers").append(button);
  }
  const predictions = [["before", "Prediction before"], ["after", "Prediction after"], ...(hasLabel ? [["label", "Label"]] : [])];
  for (const [name, caption] of predictions) panels.push(addFigure("panels", name, caption));
  panels.push(addFigure("panels", "changed", "Changed pixels"));
  for (const [name, caption] of [["image", "close-up"], ["before", "before"], ["after", "after"], ...(hasLabel ? [["label", "label"]] : [])])
    closeUps.push(addFigure("closeups", name, caption));
  buildTable(hasLabel);
  $("scale").getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(viridisBytes), 256), 0, 0);
  buildParts();
  buildSlices();
}

function writeRounding() {
  const error = Math.max(...about.slices.map(slice => slice.parts[data.part].error));
  $("rounding").textContent = "The page holds the attention as " + data.components +
    " components of " + about.parts[data.part].maps.length + " maps, rounded. The rounding changes an attention by at most " +
    (100 * error).toPrecision(2) + " % of the largest component of its class (measured at 512 patches or all). The predictions are exact.";
}

// A menu of several attentions, each with its feature map, patch size and classes.
function buildParts() {
  if (PARTS === 1) return;
  for (const element of document.querySelectorAll(".several")) element.hidden = false;
  about.parts.forEach(({name, maps}, i) => {
    const option = document.createElement("option");
    const names = maps.length === K ? "all classes" : maps.map(k => about.maps[k].name).join(", ");
    option.textContent = i + 1 + ": " + name + ", " + names;
    $("part").append(option);
  });
  $("part").addEventListener("change", () => change(state.slice, $("part").selectedIndex));
}

function buildTable(hasLabel) {
  const head = document.createElement("tr");
  for (const text of ["Class", "Attention", ...(hasLabel ? ["Gold"] : []), "Highest", "Votes", "In patch"]) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = text;
    head.append(cell);
  }
  document.querySelector("#classes thead").append(head);
  const width = Math.round(Math.min(60, 32 * W / H)), height = Math.max(8, Math.round(width * H / W));
  about.maps.forEach(({name, id}, k) => {
    const element = document.createElement("tr"), row = {element}, button = document.createElement("button");
    button.type = "button";
    if (K > 1 && KEYS[k]) {
      const key = document.createElement("kbd");
      key.textContent = KEYS[k];
      button.append(key);
    }
    button.append(...named(id).childNodes);
    button.addEventListener("focus", () => button.matches(":focus-visible") && choose(k));
    element.addEventListener("click", () => choose(k));
    const cells = [["button", button]];
    for (const kind of ["attention", ...(hasLabel ? ["gold"] : [])]) {
      const canvas = newCanvas(2 * width, 2 * height);
      canvas.style.cssText = "width:" + width + "px;height:" + height + "px";
      cells.push([kind, canvas]);
    }
    for (const [kind, content] of cells) {
      const cell = document.createElement("td");
      cell.append(content);
      element.append(cell);
      row[kind] = content;
    }
    for (const kind of ["peak", "sum", "share"]) element.append(row[kind] = document.createElement("td"));
    element.dataset.name = name;
    document.querySelector("#classes tbody").append(element);
    rowsOfClasses.push(row);
  });
}

function buildSlices() {
  if (about.depth === null) return;
  const numbers = about.slices.map(slice => slice.number), slider = $("slice");
  $("slices").hidden = false;
  slider.max = about.slices.length - 1;
  slider.value = state.slice;
  slider.addEventListener("input", () => change(Number(slider.value), state.part));
  const shown = numbers.length === about.depth ? "all " + about.depth + " slices of the volume" :
    numbers.length + " of the volume's " + about.depth + " slices: " + numbers.join(", ");
  $("title").append(" — the page holds " + shown);
}

function draw() {
  if (state.drawn) return;
  state.drawn = true;
  requestAnimationFrame(() => {
    state.drawn = false;
    now = look();
    for (const button of $("layers").children) button.setAttribute("aria-pressed", button.dataset.layer === state.layer);
    $("follow").checked = state.chosen === null;
    $("follow").disabled = K === 1;
    $("slice_number").textContent = about.depth === null ? "" : about.slices[data.index].number;
    drawMain();
    drawPanels();
    drawCloseUps();
    writeReadout();
    writeRegions();
    writeClasses();
    document.body.dataset.part = data.part;
    document.body.dataset.patch = [data.index, now.row, now.column].join();
  });
}

function choose(k) {
  state.chosen = k;
  draw();
}

function use(found) {
  data = found;
  useSizes(about.parts[data.part]);
  tile.width = REGION_COLUMNS;
  tile.height = REGION_ROWS;
  writeRounding();
}

async function change(slice, part) {
  const within = (index, list) => Math.max(0, Math.min(list.length - 1, index));
  state.slice = $("slice").value = within(slice, about.slices);
  state.part = $("part").selectedIndex = within(part, about.parts);
  const found = await load(state.slice, state.part);
  // The slider or the menu may have moved on.
  if (found.index !== state.slice || found.part !== state.part) return;
  use(found);
  draw();
}

// --- pointer and keys

function pointTo(event) {
  const place = event.currentTarget.getBoundingClientRect();
  const within = (position, start, length, count) => Math.max(0, Math.min(count - 1, Math.floor((position - start) / length * count)));
  state.point = [within(event.clientY, place.top, place.height, H), within(event.clientX, place.left, place.width, W)];
  draw();
}

function listen(canvas) {
  canvas.addEventListener("pointermove", event => {
    if (event.pointerType === "mouse" ? !state.held : event.buttons) pointTo(event);
  });
  canvas.addEventListener("pointerdown", event => {
    if (event.pointerType === "mouse") state.held = !state.held;
    else canvas.setPointerCapture(event.pointerId);
    pointTo(event);
  });
}

function movePatch(rows, columns) {
  const row = Math.max(0, Math.min(LAST_ROW, now.row + rows)), column = Math.max(0, Math.min(LAST_COLUMN, now.column + columns));
  const box = boxOf(row, column, PH, PW);
  state.point = [Math.floor((box.top + box.bottom - 1) / 2), Math.floor((box.left + box.right - 1) / 2)];
  draw();
}

function nextLayer() {
  const names = Array.from($("layers").children, button => button.dataset.layer);
  state.layer = names[(names.indexOf(state.layer) + 1) % names.length];
  draw();
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target === $("part")) return;
  const far = event.shiftKey ? 5 : 1, inSlider = event.target === $("slice"), onControl = event.target.closest("button, input, summary");
  const actions = {
    ArrowUp: () => movePatch(-far, 0), ArrowDown: () => movePatch(far, 0),
    ArrowLeft: () => movePatch(0, -far), ArrowRight: () => movePatch(0, far),
    PageUp: () => change(state.slice + 1, state.part), PageDown: () => change(state.slice - 1, state.part),
    "+": () => change(state.slice, state.part + 1), "-": () => change(state.slice, state.part - 1),
    Escape: () => choose(null), " ": nextLayer,
  };
  const class_index = KEYS.indexOf(event.key);
  let action = actions[event.key];
  if (event.key.startsWith("Arrow") && inSlider || event.key === " " && onControl) return;
  if (event.key.startsWith("Page") && about.depth === null || "+-".includes(event.key) && PARTS === 1) return;
  if (!action && event.key.length === 1 && class_index >= 0 && class_index < K) action = () => choose(class_index);
  if (!action) return;
  event.preventDefault();
  action();
}

async function start() {
  if (typeof DecompressionStream === "undefined") throw new Error("this browser is too old; use one from 2023 or later");
  use(await load(state.slice, state.part));
  build();
  document.querySelector("main").hidden = false;
  $("message").hidden = true;
  for (const canvas of [$("main"), ...panels.map(panel => panel.canvas)]) listen(canvas);
  $("follow").addEventListener("change", () => choose($("follow").checked ? null : now.k));
  document.addEventListener("keydown", press);
  window.addEventListener("resize", draw);
  draw();
}

start().catch(error => {
  $("message").textContent = "The page cannot show the attention: " + error.message;
  throw error;
});
})();
