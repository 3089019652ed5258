// Curves with sliders: on a page every frame is stored (arrays quantised to 16 bits); in JupyterLab Python sends the frame it computed.

/** Arrays of a figure, decoded when first needed: level 65535 means "no value here". */
function decoder(arrays) {
  const cache = new Map();
  const decode = ({ low, high, shape, data }) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const values = Float64Array.from({ length: bytes.length / 2 }, (_, i) => {
      const level = view.getUint16(2 * i, true);
      return level === 65535 ? NaN : low + ((high - low) * level) / 65534;
    });
    return Object.assign(values, { shape });
  };
  return (index) => {
    if (!cache.has(index)) cache.set(index, decode(arrays[index]));
    return cache.get(index);
  };
}

/** What changes from frame to frame is stored as a list over frames, the rest once. */
const at = (value, frame) => (Array.isArray(value) ? value[frame] : value);

const SHAPES = [
  (x, y) => `M${x - 4} ${y}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0`,
  (x, y) => `M${x - 3.5} ${y - 3.5}h7v7h-7z`,
  (x, y) => `M${x} ${y - 5}l5 5l-5 5l-5 -5z`,
  (x, y) => `M${x} ${y - 5}l4.6 8h-9.2z`,
];

const DRAW = {
  line: ({ X, Y }, { x, y }, look) => [h("path", { d: pathThrough(Array.from(x, X), Array.from(y, Y)), ...stroke(look.color, look.dash) })],
  band: ({ X, Y }, { x, low, high }, look) => {
    const forth = Array.from(x, (v, i) => `${X(v).toFixed(2)} ${Y(high[i]).toFixed(2)}`);
    const back = Array.from(x, (v, i) => `${X(v).toFixed(2)} ${Y(low[i]).toFixed(2)}`).reverse();
    return [h("path", { d: `M${forth.concat(back).join("L")}z`, fill: color(look.color), "fill-opacity": 0.22 })];
  },
  points: ({ X, Y }, { x, y, yerr }, look) => {
    const real = Array.from(x.keys()).filter((i) => !Number.isNaN(y[i]));
    const bars = yerr ? real.map((i) => `M${X(x[i])} ${Y(y[i] - yerr[i])}V${Y(y[i] + yerr[i])}`).join("") : "";
    const dots = real.map((i) => look.shape(X(x[i]), Y(y[i]))).join("");
    const rim = { stroke: color("paper"), "stroke-width": 0.8 };
    return [h("path", { d: bars, ...stroke(look.color, null, 1.5) }), h("path", { d: dots, fill: color(look.color), ...rim })];
  },
  vline: ({ X, box }, { at: [x] }, look) => [h("path", { d: `M${X(x)} ${box.top}v${box.height}`, ...stroke(look.color, "5 4", 1.5) })],
  hline: ({ Y, box }, { at: [y] }, look) => [h("path", { d: `M${box.left} ${Y(y)}h${box.width}`, ...stroke(look.color, "5 4", 1.5) })],
  heat: () => [],
};

const KEYS = {
  line: (look) => h("path", { d: "M1 7h28", ...stroke(look.color, look.dash) }),
  band: (look) => h("rect", { x: 1, y: 2, width: 28, height: 10, fill: color(look.color), "fill-opacity": 0.22 }),
  points: (look) => h("path", { d: look.shape(15, 7), fill: color(look.color) }),
  vline: (look) => h("path", { d: "M15 0v14", ...stroke(look.color, "5 4", 1.5) }),
  hline: (look) => h("path", { d: "M1 7h28", ...stroke(look.color, "5 4", 1.5) }),
};

// Dark to light in equal steps of lightness (viridis at five places), so that a heat map reads in grey as well.
const HEAT = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

function heatColor(fraction) {
  const place = Math.min(Math.max(fraction, 0), 1) * (HEAT.length - 1);
  const i = Math.min(Math.floor(place), HEAT.length - 2);
  return `rgb(${HEAT[i].map((a, c) => Math.round(a + (place - i) * (HEAT[i + 1][c] - a)))})`;
}

/** Borders of the cells around the grid values: halfway between neighbours, half a step beyond the ends. */
function edges(v) {
  const n = v.length;
  const between = Array.from({ length: n - 1 }, (_, i) => (v[i] + v[i + 1]) / 2);
  return [(3 * v[0] - v[1]) / 2, ...between, (3 * v[n - 1] - v[n - 2]) / 2];
}

/** Cells as rectangles of whole device pixels on a canvas that lies behind the axes. */
function paintHeat(canvas, { box, X, Y }, { x, y, z }, [low, high]) {
  const ratio = devicePixelRatio || 1;
  Object.assign(canvas.style, { left: `${box.left}px`, top: `${box.top}px`, width: `${box.width}px`, height: `${box.height}px` });
  canvas.width = box.width * ratio;
  canvas.height = box.height * ratio;
  const pen = canvas.getContext("2d");
  const across = edges(x).map((v) => Math.round((X(v) - box.left) * ratio));
  const down = edges(y).map((v) => Math.round((Y(v) - box.top) * ratio));
  z.forEach((value, k) => {
    const i = k % x.length, j = Math.floor(k / x.length);
    if (Number.isNaN(value)) return;
    pen.fillStyle = heatColor((value - low) / (high - low || 1));
    pen.fillRect(across[i], down[j + 1], across[i + 1] - across[i], down[j] - down[j + 1]);
  });
}

function heatKey(label, [low, high]) {
  const gradient = `linear-gradient(90deg, ${HEAT.map((c) => `rgb(${c})`).join(", ")})`;
  const number = (v) => String(Number(v.toPrecision(3))).replace("-", "−");
  const scale = h("span", { style: `flex: 0 1 12rem; height: 12px; background: ${gradient}` });
  return h("div", { class: "pgx-bar" }, h("span", {}, ...texHtml(label ?? "")), number(low), scale, number(high));
}

/** Colour, dash and shape of each mark, the same in every frame. */
function looks(marks) {
  const used = {};
  return marks.map((mark) => {
    const n = (used[mark.kind] = (used[mark.kind] ?? -1) + 1);
    return { color: mark.color, dash: DASHES[n % DASHES.length], shape: SHAPES[n % SHAPES.length] };
  });
}

function render({ model, el }) {
  let params = model.get("params");
  let array = decoder(params.arrays);
  const position = params.sliders.map((s) => s.start);
  const frame = () => position.reduce((index, p, i) => index * params.sliders[i].texts.length + p, 0);
  const host = h("div", { style: "position: relative" });
  const title = h("p");
  const keys = h("div");
  const canvas = h("canvas", { style: "position: absolute", "aria-hidden": "true" });
  const { root, dispose } = mount(el, model, () => draw());

  function draw() {
    const now = frame();
    const style = looks(params.marks);
    const heat = params.marks.find((mark) => mark.kind === "heat");
    picture.layout({ x: params.x, y: params.y, height: Math.min(Math.max(host.clientWidth * 0.52, 250), 380), grid: !heat });
    picture.marks.replaceChildren(...params.marks.flatMap((mark, i) => DRAW[mark.kind](picture, dataOf(mark, now), style[i])));
    canvas.hidden = !heat;
    if (heat) paintHeat(canvas, picture, dataOf(heat, now), heat.range);
    const entries = params.marks.map((mark, i) => ({ label: at(mark.label, now), mark: KEYS[mark.kind]?.(style[i]) }));
    keys.replaceChildren(legend(entries.filter((entry) => entry.mark)), ...(heat ? [heatKey(at(heat.label, now), heat.range)] : []));
    title.replaceChildren(...texHtml(at(params.title, now) ?? ""));
    title.hidden = !params.title;
    Object.assign(root.dataset, { frame: now, values: JSON.stringify(params.sliders.map((s, i) => s.texts[position[i]])) });
  }
  const dataOf = (mark, now) => Object.fromEntries(Object.entries(mark.data).map(([name, ref]) => [name, array(at(ref, now))]));

  host.append(canvas);
  const picture = chart(host, { alt: `${texPlain(params.y.label)} against ${texPlain(params.x.label)}` });
  const { el: controls, dispose: stopControls } = frameControls(root, params.sliders, position, draw);
  root.append(title, host, keys, controls);
  const receive = () => { params = model.get("params"); array = decoder(params.arrays); draw(); };
  model.on("change:params", receive);
  draw();
  return () => { model.off("change:params", receive); stopControls(); dispose(); };
}

/** Sliders over the stored frames, a play button for the first of them, and reset. */
function frameControls(root, sliders, position, draw) {
  if (!sliders.length) return { el: "", dispose: () => {} };
  const later = oncePerFrame(draw);
  const built = sliders.map(({ label, texts }, i) => slider({
    label, min: 0, max: texts.length - 1, step: 1, value: position[i],
    show: (k) => texts[k],
    change: (k) => { position[i] = k; later(); },
  }));
  const move = (i, k) => { position[i] = k; built[i].set(k); draw(); };
  let beat = 0;
  const play = animation(root, () => {
    // Six values a second can be followed; under reduced motion each call is already a second apart.
    if (!reducedMotion() && beat++ % 10) return;
    move(0, (position[0] + 1) % sliders[0].texts.length);
  }, (running) => {
    playButton.textContent = running ? "Pause" : "Play";
    // While it plays, a screen reader is not told each value.
    built[0].output.setAttribute("aria-live", running ? "off" : "polite");
  });
  const playButton = button("Play", play.toggle, true);
  const reset = button("Reset", () => { play.stop(); sliders.forEach((s, i) => move(i, s.start)); });
  return { el: h("div", { class: "pgx-bar" }, ...built.map((b) => b.el), playButton, reset), dispose: play.dispose };
}

export default { render };
