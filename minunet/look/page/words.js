"use strict";
// What the page says of a node.

const number = (n) => n.toLocaleString("en");
const times = (shape) => shape.map(number).join(" × ");
const superscript = (n) => [...String(n)].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c])).join("");

/** A number in three digits, or in two and a power of ten. */
function short(x) {
  if (x === 0) return "0";
  if (Math.abs(x) >= 0.01 && Math.abs(x) < 1e5) return String(+x.toPrecision(3)).replace("-", "−");
  const [digits, power] = x.toExponential(1).split("e");
  return `${digits.replace("-", "−")}·10${superscript(+power)}`;
}

const milliseconds = (ms) => (ms < 0.1 ? "under 0.1 ms" : ms < 1e4 ? `${+ms.toPrecision(3)} ms` : `${+(ms / 1e3).toPrecision(3)} s`);

function bytes(n) {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  let i = 0;
  for (; n >= 1024 && i < 3; i++) n /= 1024;
  return `${+n.toPrecision(3)} ${units[i]}`;
}

const channelsOf = (n) => `${number(n)} channel${n === 1 ? "" : "s"}`;

/** Of a node of norm, activation and whatever else stands there: what is said of a ReLU holds only if it ends in one. */
function activationWords(node) {
  const norm = node.title.includes("norm"), rectified = node.title.endsWith("ReLU") && !node.title.includes("leaky");
  if (!rectified) return [node.title, norm && !node.title.includes("+") ? "y = γ · (x − μ) / √(σ² + ε) + β" : "", "Every pixel keeps its place, and every map its size."];
  return norm
    ? [node.title, "y = max(0, γ · (x − μ) / √(σ² + ε) + β)", "The norm gives every channel a scale of its own and a zero to cut at; the ReLU cuts away what is below it."]
    : [node.title, "y = max(0, x)", "What is below zero is cut away."];
}

/** Title, formula and text of a node as the forward comes to it. */
function forwardWords(node, nodes) {
  const from = node.sources.map((s) => nodes[s]), C = node.shape[2], [H, W] = node.shape;
  switch (node.kind) {
    case "image":
      return ["The image", "", `What the network gets: ${H} rows, ${W} columns, ${channelsOf(C)}, its grey values brought to about 0 to 1 as in training.`];
    case "conv":
      return [node.title, "y[h,w,k] = b[k] + Σ x[h+i, w+j, c] · w[i,j,c,k]",
        `${number(C)} filters of ${node.filter[0]} × ${node.filter[1]} pixels slide over all ${channelsOf(from[0].shape[2])}; each gives one channel of the new map.`];
    case "act":
      return activationWords(node);
    case "pool":
      return [node.title, "y = max of every 2 × 2 pixels", "A quarter of the pixels go on. Each filter after this sees twice as far, and where exactly something was is known half as well."];
    case "up":
      return [node.title, node.params ? "every pixel stamps 2 × 2 pixels: x[h,w] · w[i,j]" : "every pixel becomes 2 × 2", "The map has twice as many rows and columns again. What there is, it knows from below; where, it must get from the skip."];
    case "join":
      if (from.length > 2) return [`Skip connections: concatenation of ${from.length} maps`, "y = [skip, …, skip, up]", `The maps of this size that there are already are laid beside the one from below: ${from.map((n) => number(n.shape[2])).join(", ")} channels.`];
      return ["Skip connection: concatenation", "y = [skip, up]", `The encoder’s map comes over the skip with its sharp edges and is laid beside the one from below: ${number(from[0].shape[2])} and ${channelsOf(from[1].shape[2])}${from[0].shape[0] > H ? ", the skip cropped to its middle" : ""}.`];
    case "layer":
      return [node.title, "", `It takes ${from.map((n) => times(n.shape)).join(" and ")} numbers (rows, columns, channels) and gives ${times(node.shape)}.`];
    case "head":
      return ["Head: the logits", "y = x · w + b", `A 1 × 1 convolution makes of each pixel’s ${channelsOf(from[0].shape[2])} one number a class. The largest wins${C === 1 ? "; with one channel, its sign decides" : ""}.`];
    default:
      return ["Prediction and loss", `loss = ${short(data.loss)}`, data.mask
        ? `The loss is the mean cross-entropy with the mask ${data.mask}. From here its gradient goes back: which way every number in the network should have moved.`
        : "No mask was given, so the loss is the mean cross-entropy with the network’s own prediction: its gradient shows where the network is not sure. From here it goes back."];
  }
}

/** The same as the backward comes to it: the gradient with respect to its map has arrived. */
function backwardWords(node) {
  const two = Object.keys(node.handed).length === 2;
  const [title] = node.kind === "join" ? ["Skip connection: the gradient splits"] : two ? [`${node.title}: two gradients meet`] : [node.kind === "image" ? "The image’s gradient" : forwardWords(node, data.nodes)[0]];
  switch (node.kind) {
    case "image":
      return [title, "∂loss/∂x", "The gradient has arrived at the image: how the loss would change if a pixel were brighter. Training does not need it; it tells what the network looks at."];
    case "conv":
      return [title, "dw[i,j] = Σ x[h+i, w+j]ᵀ · dy[h,w],   dx += dy · w[i,j]ᵀ", "What the filters saw, correlated with what comes back, is their gradient. The map before gets its share through the same filters, turned around."];
    case "act":
      if (!two && !node.title.includes("ReLU")) return [title, "", "The gradient passes through the layer’s own backward to the map before."];
      return [title, two ? "dy = dy(below) + dy(skip)" : "dx = dy where y > 0", two
        ? "Two layers read this map, the pool and the skip, so its gradient is the sum of what they hand back. That += is the whole secret of a skip connection."
        : `The ReLU lets the gradient pass where it let the value pass${node.title.includes("norm") ? "; the norm scales it" : ""}.`];
    case "pool":
      return [title, "dx = dy at each window’s winner, else 0", "What comes back here goes to the pixel that won each 2 × 2 window; the other three get nothing."];
    case "up":
      return [title, node.params ? "dx = Σ dy[2h+i, 2w+j] · w[i,j]ᵀ" : "dx = Wᵀ · dy", "The gradient of four pixels gathers in the one they came from, and goes down."];
    case "layer":
      return [title, "", "The gradient passes through the layer’s own backward to the maps that it took."];
    case "join":
      return [title, "[dskip, dup] = dy", "The concatenation’s gradient is cut in two: one part jumps over the skip and waits there, the other goes down through the whole U."];
    default:
      return [node.kind === "head" ? "The loss’s gradient at the logits" : title, "∂loss/∂y = (p − 1[y]) / N", "Probability minus truth, in every pixel: nearly nothing where the network is sure and right, much where it is wrong or in doubt. Mostly the edges."];
  }
}

/** Names and values that belong to a node. */
function facts(node, backward) {
  const rows = [["shape", `${times(node.shape)} (rows, columns, channels)`], ["in memory", bytes(node.bytes)]];
  if (node.path) rows.push(["layer", node.path]);
  if (node.params) rows.push(["learned", `${number(node.params)} values${node.filter ? `, filters ${node.filter.join(" × ")}` : ""}`]);
  if (node.kind !== "image") rows.push(["time", backward ? `${milliseconds(node.backward_ms)} backward` : `${milliseconds(node.forward_ms)} forward`]);
  if (backward) {
    rows.push(["gradient", `length ${short(node.gradient_norm)}`]);
    if (node.params) rows.push(["of what it learned", `length ${short(node.params_gradient_norm)}, the values’ own ${short(node.params_norm)}`]);
  } else rows.push(["values", `${short(node.range[0])} to ${short(node.range[1])}`]);
  return rows;
}
