"use strict";
// Panels of one stack of slices: all show the same slice in the same grey window.
async function inflate(text) {
  const bytes = Uint8Array.from(atob(text.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function start(viewer) {
  const about = JSON.parse(viewer.querySelector("script[data-about]").textContent);
  const [rows, columns] = about.shape;
  const size = rows * columns;
  const data = await Promise.all(
    [...viewer.querySelectorAll("script[data-layer]")].map((s) => inflate(s.textContent)));
  const canvases = [...viewer.querySelectorAll("canvas")];
  const input = (name) => viewer.querySelector(`input[name=${name}]`);
  const [slice, low, high] = [input("slice"), input("low"), input("high")];
  const said = viewer.querySelector("[aria-live]");
  function draw() {
    const [from, to, index] = [Number(low.value), Number(high.value), Number(slice.value)];
    const width = Math.max(to - from, 0.005);
    canvases.forEach((canvas, i) => {
      const layer = about.layers[i];
      const picture = new ImageData(columns, rows);
      for (let k = 0; k < size; k++) {
        const value = (data[i][index * size + k] / 255) * layer.top;
        const shown = layer.map ? (value * about.gain) / (to || 1) : (value - from) / width;
        picture.data.fill(255 * Math.min(Math.max(shown, 0), 1), 4 * k, 4 * k + 3);
        picture.data[4 * k + 3] = 255;
      }
      canvas.getContext("2d").putImageData(picture, 0, 0);
      canvas.setAttribute("aria-label", `${layer.name}, ${about.names[index]}`);
    });
    said.textContent = `${index + 1} of ${about.names.length}: ${about.names[index]}; window ${from.toFixed(2)} to ${to.toFixed(2)}`;
  }
  function move(control, steps) {
    control.value = Number(control.value) + steps * Number(control.step);
    draw();
  }
  const keys = {
    ArrowUp: [slice, 1], ArrowDown: [slice, -1], PageUp: [slice, 5], PageDown: [slice, -5],
    ArrowRight: [high, 2], ArrowLeft: [high, -2], ".": [low, 2], ",": [low, -2],
  };
  viewer.addEventListener("keydown", (event) => {
    if (event.target !== viewer || !(event.key in keys)) return;
    event.preventDefault();
    move(...keys[event.key]);
  });
  viewer.querySelector(".panels").addEventListener("wheel", (event) => {
    if (about.names.length < 2) return;
    event.preventDefault();
    move(slice, event.deltaY < 0 ? 1 : -1);
  }, { passive: false });
  [slice, low, high].forEach((control) => control.addEventListener("input", draw));
  draw();
  viewer.dataset.ready = "yes";
}

document.querySelectorAll(".viewer").forEach((viewer) => start(viewer).catch((error) => {
  viewer.querySelector("[aria-live]").textContent = `this browser cannot show the slices: ${error}`;
}));
