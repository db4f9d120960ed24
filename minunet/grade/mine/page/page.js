"use strict";
// The layers say whose they are, and the slider goes through the training.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const u = $("u"), halves = [...u.querySelectorAll(".half")];

/** Light the halves that a test holds for, and say something; without a test nothing is lit. */
function light(test, words) {
  u.classList.toggle("picked", Boolean(test));
  for (const half of halves) half.classList.toggle("lit", Boolean(test) && test(half));
  $("said").textContent = words || "Point at a layer, or at a row below.";
}

for (const half of halves) {
  half.addEventListener("pointerenter", () => light((h) => h === half || (half.dataset.exercise && h.dataset.exercise === half.dataset.exercise), half.dataset.words));
  half.addEventListener("pointerleave", () => light());
}
for (const row of document.querySelectorAll("#parts tr[data-exercise]")) {
  row.addEventListener("pointerenter", () => light((h) => (h.dataset.exercise || h.dataset.for) === row.dataset.exercise, row.dataset.words));
  row.addEventListener("pointerleave", () => light());
}

if ($("frames")) {
  const show = () => {
    const k = Number($("frames").value), frame = data.frames[k], { x, y } = data.points[k];
    for (const image of document.querySelectorAll(".shot.said img")) image.src = frame.uri;
    $("mark").setAttribute("cx", x);
    $("mark").setAttribute("cy", y);
    $("now").textContent = frame.words;
    document.body.dataset.frame = k;
  };
  $("frames").addEventListener("input", show);
  $("frames").value = data.frames.length - 1;
  show();
}
