"use strict";
// From grey tiles to colours. Maps: dark where nothing is, light where much; gradients: white where nothing is, blue and red.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

const RAMPS = {
  value: ["#0c1220", "#1b3a5c", "#1f7a8c", "#74c3a9", "#f4f7dc"],
  signed: ["#ffd9a0", "#c0673a", "#4a2320", "#0c1220", "#16405f", "#2a93a0", "#d9f5d0"],
  gradient: ["#123f7a", "#3f87c0", "#a9cfe6", "#f6f4f0", "#f3b79a", "#d3573f", "#7d1229"],
};

/** 256 colours [r, g, b] along the stops of a ramp. */
function table(stops) {
  const rgb = stops.map((s) => [1, 3, 5].map((i) => parseInt(s.slice(i, i + 2), 16)));
  return Array.from({ length: 256 }, (_, g) => {
    const place = (g / 255) * (rgb.length - 1), i = Math.min(Math.floor(place), rgb.length - 2), t = place - i;
    return rgb[i].map((c, k) => Math.round(c + t * (rgb[i + 1][k] - c)));
  });
}

const TABLES = Object.fromEntries(Object.entries(RAMPS).map(([name, stops]) => [name, table(stops)]));

/** Which table a node's map or gradient is drawn with. */
const tableOf = (node, what) => (what === "gradient" ? "gradient" : node.value.signed ? "signed" : "value");

const sheets = new Map(); // URI: promise of the grey values of its pixels

/** The grey values of a sheet of tiles. */
function intensities(uri) {
  if (!sheets.has(uri)) {
    sheets.set(uri, (async () => {
      const image = new Image();
      image.src = uri;
      await image.decode();
      const canvas = new OffscreenCanvas(image.width, image.height), g = canvas.getContext("2d", { willReadFrequently: true });
      g.drawImage(image, 0, 0);
      const rgba = g.getImageData(0, 0, image.width, image.height).data;
      return Uint8Array.from({ length: rgba.length / 4 }, (_, i) => rgba[4 * i]);
    })());
  }
  return sheets.get(uri);
}

/** Draw tile k of a node's sheet ("value" or "gradient") on a canvas. */
async function paint(canvas, node, what, k) {
  const { uri, tile: [h, w] } = node[what], colours = TABLES[tableOf(node, what)], grey = await intensities(uri);
  canvas.width = w;
  canvas.height = h;
  const g = canvas.getContext("2d"), pixels = g.createImageData(w, h);
  for (let i = 0; i < h * w; i++) {
    pixels.data.set(colours[grey[k * h * w + i]], 4 * i);
    pixels.data[4 * i + 3] = 255;
  }
  g.putImageData(pixels, 0, 0);
}

/** The ramp of a table, as a legend. */
function paintRamp(canvas, name) {
  const g = canvas.getContext("2d");
  for (let i = 0; i < canvas.width; i++) {
    g.fillStyle = `rgb(${TABLES[name][Math.round((i * 255) / (canvas.width - 1))]})`;
    g.fillRect(i, 0, 1, canvas.height);
  }
}

/** Make an element: its class or other properties, and its children or text. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
