"use strict";
// The grid of output pixels: the receptive field and the gradient of the chosen one.

const field = data.field;

function makeDots() {
  const box = $("output");
  box.querySelector("img").src = data.pictures.prediction;
  const [H, W] = nodes[last - 1].shape;
  const across = field.pixels.filter(([r]) => r === field.pixels[0][0]).length;
  field.pixels.forEach(([row, column], i) => {
    const dot = make("button", { className: "dot", title: `row ${row}, column ${column}`, onclick: () => choose(i) });
    dot.setAttribute("aria-pressed", "false");
    dot.style.left = `${(100 * (column + 0.5)) / W}%`;
    dot.style.top = `${(100 * (row + 0.5)) / H}%`;
    dot.onkeydown = (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[event.key];
      if (!move || !field.pixels[i + move]) return;
      event.preventDefault();
      event.stopPropagation();
      choose(i + move);
      box.querySelectorAll(".dot")[i + move].focus();
    };
    box.append(dot);
  });
}

/** Show what output pixel i of the grid depends on. */
async function choose(i) {
  $("output").querySelectorAll(".dot").forEach((dot, k) => dot.setAttribute("aria-pressed", String(k === i)));
  const [top, bottom, left, right] = field.boxes[i], [row, column] = field.pixels[i], [H, W] = data.size;
  const canvas = $("input").querySelector("canvas"), scale = Math.max(1, Math.ceil(640 / W));
  const [[h, w], grey] = [field.tile, await intensities(field.uri)];
  const photograph = new Image();
  photograph.src = data.pictures.image;
  await photograph.decode();

  const glow = new OffscreenCanvas(w, h), pixels = new ImageData(w, h);
  for (let k = 0; k < h * w; k++) {
    const strength = grey[i * h * w + k];
    pixels.data.set([255, 150 + strength * 0.4, 20 + strength * 0.5, strength], 4 * k);
  }
  glow.getContext("2d").putImageData(pixels, 0, 0);

  [canvas.width, canvas.height] = [W * scale, H * scale];
  const g = canvas.getContext("2d");
  g.imageSmoothingEnabled = false;
  g.drawImage(photograph, 0, 0, canvas.width, canvas.height);
  g.fillStyle = "rgb(8 12 20 / 0.8)"; // outside
  g.fillRect(0, 0, canvas.width, canvas.height);
  const frame = [left, top, right - left + 1, bottom - top + 1];
  g.drawImage(photograph, ...frame, ...frame.map((n) => n * scale));
  g.fillStyle = "rgb(8 12 20 / 0.5)"; // inside
  g.fillRect(...frame.map((n) => n * scale));
  g.drawImage(glow, 0, 0, canvas.width, canvas.height);
  g.strokeStyle = "#f5b301";
  g.lineWidth = Math.max(2, canvas.width / 260);
  g.strokeRect(...frame.map((n) => n * scale));

  const name = data.logit_names[Math.min(field.labels[i], data.logit_names.length - 1)];
  const said = [
    [`row ${row}, column ${column}`, "the output pixel"],
    [`${name}: ${short(field.logits[i])}`, "its logit, of the class that it was given"],
    [`${bottom - top + 1} × ${right - left + 1} pixels`, `receptive field, rows ${top} to ${bottom}, columns ${left} to ${right}`],
    [`${field.squares[i]} × ${field.squares[i]} pixels`, "hold half of the gradient"],
  ];
  $("seen").replaceChildren(...said.map(([value, what]) => make("div", {}, make("b", {}, value), make("span", {}, what))));
}
