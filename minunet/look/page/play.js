"use strict";
// Steps: the buttons, the keys and the slider; and the start.

const PLAY = "M4 2v14l11-7z", PAUSE = "M3 3h4v12H3zM11 3h4v12h-4z";
let step = -1, timer = null;

function go(to) {
  to = Math.max(0, Math.min(steps, to));
  if (to === step) return;
  step = to;
  drawU(step);
  drawPanel(step);
  $("scrub").value = step;
  $("network").dataset.step = step;
  [...$("costs").children].forEach((bar, i) => bar.classList.toggle("now", i === step));
  follow(visit(step));
  if (step === steps) pause();
}

function pause() {
  clearTimeout(timer);
  timer = null;
  $("playing").setAttribute("d", PLAY);
  $("play").setAttribute("aria-label", "Play");
}

function play() {
  if (timer !== null) return pause();
  if (step === steps) go(0);
  $("playing").setAttribute("d", PAUSE);
  $("play").setAttribute("aria-label", "Pause");
  const tick = () => {
    timer = setTimeout(tick, Number($("speed").value));
    go(step + 1);
  };
  timer = setTimeout(tick, 200);
}

/** Step by hand, which ends playing. */
function stepTo(to) {
  pause();
  go(to);
}

function writeAbout() {
  const [H, W] = data.size, [wholeH, wholeW] = data.whole;
  const cut = H === wholeH && W === wholeW ? "" : H <= wholeH && W <= wholeW ? `, the middle ${H} × ${W} of ${wholeH} × ${wholeW} pixels` : `, ${wholeH} × ${wholeW} pixels mirrored outwards to ${H} × ${W}`;
  $("about").textContent = `${data.model}, ${number(data.params)} learned values, on ${data.image}${cut}`;
  const sum = (key) => nodes.slice(1, last).reduce((total, node) => total + node[key], 0);
  const notes = [
    `Every number here was recorded from the network’s own forward and backward on this image, in inference mode, as it predicts. ` +
    `The plain operations ran, so that every map exists: ${milliseconds(sum("forward_ms"))} forward and ${milliseconds(sum("backward_ms"))} backward in all, ` +
    `the least of three runs${data.kernels_ms ? `; minunet’s kernels, which fuse layers and leave maps out, take ${milliseconds(data.kernels_ms[0])} and ${milliseconds(data.kernels_ms[1])}` : ""}. ` +
    `The maps take ${bytes(sum("bytes"))}.`,
    `Cards are as large as their maps by level, and have a sheet behind them for every fourfold of channels. All tiles of a map share one scale, ` +
    `up to the 99.5th percentile; large maps are drawn smaller, by means. Lengths are Euclidean norms.`,
  ];
  const keys = make("p", {}, "Keys: ", make("kbd", {}, "←"), " ", make("kbd", {}, "→"), " step, ", make("kbd", {}, "space"), " play, ", make("kbd", {}, "Home"), " ", make("kbd", {}, "End"), " first and last.");
  $("notes").append(...notes.map((text) => make("p", {}, text)), keys);
}

/** A bar for each step, as high as the time that it took. */
function makeCosts() {
  const taken = Array.from({ length: steps + 1 }, (_, i) => nodes[visit(i)][i > last ? "backward_ms" : "forward_ms"] || 0);
  const most = Math.max(...taken);
  taken.forEach((ms, i) => {
    const bar = make("i", { className: i > last ? "after" : "" });
    bar.style.height = `${(100 * ms) / most}%`;
    $("costs").append(bar);
  });
}

function start() {
  document.title = `Inside a U-Net: ${data.model} on ${data.image}`;
  makeWires();
  makeCards();
  makeDots();
  writeAbout();
  makeCosts();
  pause();
  fit();
  $("scrub").max = steps;
  $("scrub").oninput = () => stepTo(Number($("scrub").value));
  $("first").onclick = () => stepTo(0);
  $("back").onclick = () => stepTo(step - 1);
  $("next").onclick = () => stepTo(step + 1);
  $("play").onclick = play;
  $("zoom").onclick = (event) => event.target === $("zoom") && $("zoom").close();
  cards.forEach((card, i) => { card.onclick = () => stepTo(step > last ? 2 * last - i : i); });
  addEventListener("resize", () => { fit(); follow(visit(step)); });
  addEventListener("keydown", (event) => {
    if ($("zoom").open || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input")) return;
    const act = { ArrowRight: () => stepTo(step + 1), ArrowLeft: () => stepTo(step - 1), Home: () => stepTo(0), End: () => stepTo(steps) }[event.key];
    if (act) act();
    else if (event.key === " " && !event.target.matches("button")) play();
    else return;
    event.preventDefault();
  });
  go(0);
  choose(Math.floor(field.pixels.length / 2 + Math.sqrt(field.pixels.length) / 2));
}

start();
