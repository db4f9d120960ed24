"use strict";
// The U: where the cards of the maps lie, and the wires between them.

const nodes = data.nodes;
nodes.push({ kind: "loss", title: "prediction and loss", level: 0, side: "up", sources: [nodes.length - 1], shape: nodes.at(-1).shape, handed: {} });
const last = nodes.length - 1;

// On a phone the whole U must fit in: cards lie closer on each other, and labels, which do not shrink with it, get more room.
const PHONE = Math.min(screen.width, screen.height, innerWidth) < 700;
const SIDE = 112, SMALLEST = 28, SHRINK = 0.8;
const [FAN, SHEET, ROW_GAP, APART] = PHONE ? [0.13, 1, 110, 16] : [0.46, 2, 48, 34];
const [SKIP, TOP, LEAST] = PHONE ? [62, 130, 0.22] : [30, 60, 0.5]; // above the U a skip's share must fit in

/** Sheets behind a card: one more for every fourfold of channels. */
const sheetsOf = (node) => (node.kind === "loss" || node.kind === "image" ? 0 : Math.round(Math.log2(node.shape[2]) / 2));

/** Place every node's card: gives x, y, w, h to each, and the size of the whole. */
function place() {
  const deepest = Math.max(...nodes.map((n) => n.level));
  const side = (level) => Math.max(SMALLEST, SIDE * SHRINK ** level);
  const tops = [TOP];
  for (let level = 1; level <= deepest; level++) tops.push(tops[level - 1] + side(level - 1) + ROW_GAP);
  const [rows, columns] = data.size, longest = Math.max(rows, columns);
  let x = 24, before = null;
  for (const node of nodes) {
    const s = side(node.level);
    [node.w, node.h] = [(s * columns) / longest, (s * rows) / longest];
    if (before && (node.kind === "head" || node.kind === "loss")) x += before.w + APART;
    else if (before && node.level === before.level) x += (node.level === deepest ? 0.46 : FAN) * node.w + SHEET * sheetsOf(node); // the bottom keeps the two sides apart
    else if (before) x += (before.w - node.w) / 2; // straight down from the pool, straight up to the next level
    [node.x, node.y] = [x, tops[node.level] + (s - node.h)];
    before = node;
  }
  return [Math.max(...nodes.map((n) => n.x + n.w)) + 24, tops[deepest] + side(deepest) + 40];
}

const [WIDE, HIGH] = place();
const cards = [], wires = [];

function makeCards() {
  nodes.forEach((node, i) => {
    const card = make("button", { className: "card empty", title: node.title });
    card.style.cssText = `left:${node.x}px; top:${node.y}px; width:${node.w}px; height:${node.h}px; z-index:${i + 1}`;
    card.dataset.node = i;
    for (let k = sheetsOf(node); k > 0; k--) {
      const sheet = make("span", { className: "sheet" });
      sheet.style.transform = `translate(${-SHEET * k}px, ${-SHEET * k}px)`;
      card.append(sheet);
    }
    const face = make("span", { className: "face" });
    face.append(node.kind === "loss" ? make("img", { src: data.pictures.prediction, alt: "" }) : make("canvas"));
    if (node.kind === "image") face.append(make("img", { src: data.pictures.image, alt: "" }));
    card.append(face);
    $("u").append(card);
    cards.push(card);
  });
  cards.forEach((card, i) => {
    const node = nodes[i];
    if (node.kind === "loss") return;
    const next = nodes[i + 1], ends = next.level !== node.level || next.kind === "head" || next.kind === "loss"; // of a row of cards
    if (ends || node.kind === "join" || i === 0) { // to the right of a wire, or above the middle
      const beside = node.kind === "join" ? 0.2 : next.kind === "up" ? 0.5 : 0;
      const x = beside ? node.x + beside * node.w + 6 : node.x + node.w * (i ? 0.33 : 0.22);
      label(beside ? "width beside" : "width", number(node.shape[2]), x, node.y - SHEET * sheetsOf(node) - 4);
    }
    const first = i === 0 || nodes[i - 1].level !== node.level;
    if (first && (node.side === "down")) label("size", `${node.shape[0]} × ${node.shape[1]}`, node.x, node.y + node.h + 8);
    if (node.kind === "head") label("size", `${node.shape[0]} × ${node.shape[1]}`, node.x, node.y + node.h + 8);
  });
}

function label(kind, text, x, y) {
  const element = make("span", { className: kind }, text);
  element.style.cssText = `left:${x}px; top:${y}px`;
  $("u").append(element);
}

const svg = (tag, attributes) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};

/** Wires between levels, the skips, and to the head; cards of one row lie on each other and need none. */
function makeWires() {
  $("wires").setAttribute("width", WIDE);
  $("wires").setAttribute("height", HIGH);
  nodes.forEach((to, i) => {
    to.sources.forEach((source, k) => {
      const from = nodes[source], skip = to.kind === "join" && k < to.sources.length - 1;
      let d = null;
      if (skip) {
        const y = Math.min(from.y, to.y) - SKIP, [a, b] = [from.x + from.w * 0.7, to.x + to.w * 0.2];
        d = `M${a} ${from.y - 4} V${y + 8} q0 -8 8 -8 H${b - 8} q8 0 8 8 V${to.y - 4}`;
      } else if (to.kind === "pool") d = `M${to.x + to.w / 2} ${from.y + from.h + 3} V${to.y - 18}`;
      else if (to.kind === "up") d = `M${to.x + to.w / 2} ${from.y - 18} V${to.y + to.h + 4}`;
      else if (to.kind === "head" || to.kind === "loss") d = `M${from.x + from.w + 5} ${from.y + from.h / 2} H${to.x - 10}`;
      if (!d) return;
      const path = svg("path", { d, class: "wire" });
      $("wires").append(path);
      const wire = { path, from: source, to: i, skip };
      if (skip) {
        wire.share = svg("text", { class: "share", x: (from.x + from.w + to.x) / 2, y: Math.min(from.y, to.y) - SKIP - 6, "text-anchor": "middle" });
        $("wires").append(wire.share);
      }
      wires.push(wire);
    });
  });
}

/** How much of the gradient at a skip's beginning comes over the skip: lengths of the two parts, and the skip's share. */
function meeting(node) {
  const over = node.handed.join, below = node.handed.pool;
  const all = Object.values(node.handed).reduce((sum, length) => sum + length, 0);
  return { over, below, share: over / (all || 1) };
}

const visit = (step) => (step <= last ? step : 2 * last - step); // the node that a step comes to
const steps = 2 * last;

/** Draw the U as it stands at a step. */
function drawU(step) {
  const backward = step > last, at = visit(step);
  nodes.forEach((node, i) => {
    const reached = backward || i <= at, back = backward && i >= at;
    const what = !reached ? "empty" : back ? "gradient" : "value";
    cards[i].classList.toggle("active", i === at);
    cards[i].classList.toggle("empty", !reached);
    if (cards[i].dataset.shows === what) return;
    cards[i].dataset.shows = what;
    if (node.kind === "loss" || !reached) return;
    const [canvas, photograph] = cards[i].querySelectorAll(".face > *");
    if (photograph) [canvas.hidden, photograph.hidden] = [!back, back];
    if (!photograph || back) paint(canvas, node, what, node.kind === "head" ? Math.min(1, node.shown.length - 1) : 0);
  });
  for (const wire of wires) {
    // a skip's gradient waits between the joint, which lets it go, and the map where it is added
    const flowing = backward ? at === wire.from || (wire.skip && at >= wire.from && at <= wire.to) : at === wire.to;
    wire.path.classList.toggle("flowing", flowing);
    wire.path.classList.toggle("done", !flowing && (backward ? at > wire.from : at > wire.to || (wire.skip && at > wire.from)));
    wire.path.classList.toggle("returned", !flowing && backward && at <= wire.from);
    if (wire.skip) {
      const known = backward && at <= wire.from;
      wire.share.textContent = known ? `${Math.round(100 * meeting(nodes[wire.from]).share)} %${PHONE ? "" : " of the gradient"}` : "";
      wire.path.style.strokeWidth = backward && at <= wire.to ? 1.5 + 6 * meeting(nodes[wire.from]).share : "";
    }
  }
  $("network").className = backward ? "backward" : "forward";
}

/** Scale the U to the window, but not below what can be seen: then it scrolls. */
function fit() {
  const room = $("stage").clientWidth - 2 * parseFloat(getComputedStyle($("stage")).paddingLeft);
  const scale = Math.max(LEAST, Math.min(1.25, room / WIDE));
  $("u").style.cssText = `width:${WIDE}px; height:${HIGH}px; transform:scale(${scale}); margin-bottom:${HIGH * (scale - 1)}px; margin-right:${WIDE * (scale - 1)}px; --scale:${scale}`;
}

/** Scroll so that a node's card is seen. */
function follow(i) {
  const stage = $("stage");
  if (stage.scrollWidth <= stage.clientWidth) return;
  const card = cards[i].getBoundingClientRect(), frame = stage.getBoundingClientRect();
  const smooth = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  stage.scrollBy({ left: card.left + card.width / 2 - frame.left - frame.width / 2, behavior: smooth ? "smooth" : "auto" });
}
