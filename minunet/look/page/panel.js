"use strict";
// The panel: words, figures and the channels of the map that a step comes to; and a channel enlarged.

function drawPanel(step) {
  const backward = step > last, node = nodes[visit(step)];
  const [title, formula, text] = backward ? backwardWords(node) : forwardWords(node, nodes);
  $("phase").textContent = `${backward ? "backward" : "forward"}, step ${backward ? step - last : step + 1} of ${backward ? last : last + 1}`;
  $("title").textContent = title[0].toUpperCase() + title.slice(1);
  $("formula").textContent = formula;
  $("text").textContent = text;
  $("facts").replaceChildren(...(node.kind === "loss" ? [] : facts(node, backward)).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  drawParts(node, backward);
  drawTiles(node, backward ? "gradient" : "value");
}

/** Where the pool's gradient and the skip's meet: how long each is. */
function drawParts(node, backward) {
  const parts = $("parts");
  parts.replaceChildren();
  if (!backward || node.handed.join === undefined || node.handed.pool === undefined) return;
  const { over, below, share } = meeting(node), percent = Math.round(100 * share);
  const bar = make("div", { className: "bar" }, make("span", { className: "over" }, `skip ${percent} %`), make("span", { className: "below" }, `from below ${100 - percent} %`));
  bar.children[0].style.flexBasis = `${100 * share}%`;
  bar.children[1].style.flex = 1;
  parts.append(make("div", {}, `over the skip: length ${short(over)}; from below: length ${short(below)}`), bar);
}

function drawTiles(node, what) {
  const tiles = $("tiles"), loss = node.kind === "loss";
  tiles.replaceChildren();
  $("legend").hidden = loss;
  $("legend").style.display = loss ? "none" : "";
  tiles.className = loss ? "pictures" : node.shown.length === 1 || (node.kind === "image" && what === "value") ? "single" : "";
  if (loss) {
    for (const [name, caption] of [["image", "the image"], ["prediction", "what the network says"], ["truth", "the mask"]]) {
      if (data.pictures[name]) tiles.append(make("button", { onclick: () => zoomPictures(caption, [name]) }, make("img", { src: data.pictures[name], alt: caption }), caption));
    }
    $("chosen").textContent = "";
    return;
  }
  legend(node, what, $("ramp"), $("low"), $("high"));
  if (node.kind === "image" && what === "value") {
    tiles.append(make("button", { onclick: () => zoomPictures("The image", ["image"]) }, make("img", { src: data.pictures.image, alt: "the image" })));
    $("chosen").textContent = "";
    return;
  }
  node.shown.forEach((channel, k) => {
    const canvas = make("canvas"), name = channelName(node, channel);
    tiles.append(make("button", { title: `${name}: enlarge`, onclick: () => zoomChannel(node, k) }, canvas, name));
    paint(canvas, node, what, k);
  });
  const C = node.shape[2];
  $("chosen").textContent = node.shown.length < C ? `${node.shown.length} of ${number(C)} channels: ${node.kind === "join" ? "those of the skip, then those from below" : "those that vary most over the image"}. Click to enlarge.` : "Click a channel to enlarge it.";
}

function channelName(node, channel) {
  if (node.kind === "head") return data.logit_names[channel];
  if (node.kind === "image") return node.shape[2] === 3 ? ["red", "green", "blue"][channel] : `channel ${channel}`;
  return String(channel);
}

function legend(node, what, canvas, low, high) {
  const { scale, signed } = node[what];
  paintRamp(canvas, tableOf(node, what));
  low.textContent = signed ? `−${short(scale)}` : "0";
  high.textContent = `${short(scale)}${what === "gradient" ? ", in square roots" : ""}`;
}

function zoomChannel(node, k) {
  const pictures = ["value", "gradient"].map((what) => {
    const canvas = make("canvas"), ramp = make("canvas", { width: 128, height: 1 }), low = make("span"), high = make("span");
    ramp.style.cssText = "width:96px;height:10px;display:inline-block;margin:0 8px";
    paint(canvas, node, what, k);
    legend(node, what, ramp, low, high);
    return make("figure", {}, canvas, make("figcaption", {}, `${what === "value" ? "the map" : "its gradient"}: `, low, ramp, high));
  });
  openZoom(`${node.title}, ${channelName(node, node.shown[k])}, ${node.shape[0]} × ${node.shape[1]}`, pictures);
}

function zoomPictures(title, names) {
  openZoom(title, names.map((name) => make("figure", {}, make("img", { src: data.pictures[name], alt: title }))));
}

function openZoom(title, pictures) {
  $("zoom").querySelector("h3").textContent = title;
  $("zoomed").replaceChildren(...pictures);
  $("zoom").showModal();
}
